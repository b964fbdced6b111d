// Shared by the probe addon's files: an addon that calls Node-API as oddly as it can, so that a script can compare
// what Node and the guest's engine make of it.
#pragma once

#include <node_api.h>

#include <vector>

struct Call {
  napi_env env;
  std::vector<napi_value> args;
  napi_value self;
};

// The arguments of a callback, all of them.
inline Call Arguments(napi_env env, napi_callback_info info) {
  Call call{env, {}, nullptr};
  size_t count = 0;
  napi_get_cb_info(env, info, &count, nullptr, &call.self, nullptr);
  call.args.resize(count);
  napi_get_cb_info(env, info, &count, call.args.data(), nullptr, nullptr);
  return call;
}

inline napi_value Number(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

inline napi_value Text(napi_env env, const char* text, size_t length = NAPI_AUTO_LENGTH) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text, length, &value);
  return value;
}

inline napi_value Undefined(napi_env env) {
  napi_value value = nullptr;
  napi_get_undefined(env, &value);
  return value;
}

// A JS array; what is missing is undefined.
inline napi_value List(napi_env env, const std::vector<napi_value>& items) {
  napi_value array = nullptr;
  napi_create_array_with_length(env, items.size(), &array);
  for (size_t index = 0; index < items.size(); index++) {
    napi_set_element(env, array, static_cast<uint32_t>(index), items[index] ? items[index] : Undefined(env));
  }
  return array;
}

inline double ToNumber(napi_env env, napi_value value) {
  double number = 0;
  napi_get_value_double(env, value, &number);
  return number;
}

// Adds a function to the exports.
inline void Export(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  napi_set_named_property(env, exports, name, function);
}

// Each file's exports.
void ExportValues(napi_env env, napi_value exports);
void ExportObjects(napi_env env, napi_value exports);
void ExportFunctions(napi_env env, napi_value exports);
void ExportLives(napi_env env, napi_value exports);
void ExportBuffers(napi_env env, napi_value exports);
