// Making JavaScript values, with the few Node-API calls that the engine has to provide.
#pragma once

#include <napi.h>

#include <string>

namespace yavm {

// Bytes that are no UTF-8 become U+FFFD.
napi_value MakeText(napi_env env, const char* text, size_t length);
napi_value MakeText(napi_env env, const std::string& text);
napi_value MakeNumber(napi_env env, double value);
napi_value MakeFlag(napi_env env, bool value);
napi_value MakeNull(napi_env env);
napi_value MakeObject(napi_env env);
napi_value MakeArray(napi_env env, size_t length);
// A Uint8Array with a copy of the bytes.
napi_value MakeBytes(napi_env env, const uint8_t* bytes, size_t length);

void SetValue(napi_env env, napi_value object, const char* name, napi_value value);
void SetText(napi_env env, napi_value object, const char* name, const std::string& value);
void SetNumber(napi_env env, napi_value object, const char* name, double value);
void SetFlag(napi_env env, napi_value object, const char* name, bool value);
void SetElement(napi_env env, napi_value array, size_t index, napi_value value);

// Shorthand for the exports: a result as node-addon-api wants it.
inline Napi::Value Number(napi_env env, double value) { return Napi::Value(env, MakeNumber(env, value)); }
inline Napi::Value Flag(napi_env env, bool value) { return Napi::Value(env, MakeFlag(env, value)); }
// The result of a function that returns nothing.
inline Napi::Value Nothing() { return Napi::Value(); }
// [a, b]: the result of calls that make two descriptors.
Napi::Value Pair(napi_env env, double first, double second);

}  // namespace yavm
