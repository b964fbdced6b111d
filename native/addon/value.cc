#include "value.h"

#include <string.h>

namespace yavm {

napi_value MakeText(napi_env env, const char* text, size_t length) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, text, length, &value);
  return value;
}

napi_value MakeText(napi_env env, const std::string& text) { return MakeText(env, text.data(), text.size()); }

napi_value MakeNumber(napi_env env, double number) {
  napi_value value = nullptr;
  napi_create_double(env, number, &value);
  return value;
}

napi_value MakeFlag(napi_env env, bool flag) {
  napi_value value = nullptr;
  napi_get_boolean(env, flag, &value);
  return value;
}

napi_value MakeNull(napi_env env) {
  napi_value value = nullptr;
  napi_get_null(env, &value);
  return value;
}

napi_value MakeObject(napi_env env) {
  napi_value value = nullptr;
  napi_create_object(env, &value);
  return value;
}

napi_value MakeArray(napi_env env, size_t length) {
  napi_value value = nullptr;
  napi_create_array_with_length(env, length, &value);
  return value;
}

napi_value MakeBytes(napi_env env, const uint8_t* bytes, size_t length) {
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_create_arraybuffer(env, length, &data, &buffer) != napi_ok) return nullptr;
  if (length > 0) memcpy(data, bytes, length);
  napi_value value = nullptr;
  napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &value);
  return value;
}

void SetValue(napi_env env, napi_value object, const char* name, napi_value value) {
  napi_set_named_property(env, object, name, value);
}

void SetText(napi_env env, napi_value object, const char* name, const std::string& value) {
  SetValue(env, object, name, MakeText(env, value));
}

void SetNumber(napi_env env, napi_value object, const char* name, double value) {
  SetValue(env, object, name, MakeNumber(env, value));
}

void SetFlag(napi_env env, napi_value object, const char* name, bool value) {
  SetValue(env, object, name, MakeFlag(env, value));
}

void SetElement(napi_env env, napi_value array, size_t index, napi_value value) {
  napi_set_element(env, array, static_cast<uint32_t>(index), value);
}

Napi::Value Pair(napi_env env, double first, double second) {
  napi_value array = MakeArray(env, 2);
  SetElement(env, array, 0, MakeNumber(env, first));
  SetElement(env, array, 1, MakeNumber(env, second));
  return Napi::Value(env, array);
}

}  // namespace yavm
