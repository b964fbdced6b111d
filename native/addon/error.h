// Errors of system calls as JavaScript sees them: the fields of NativeError in native/face.ts.
#pragma once

#include <napi.h>

#include <string>

namespace yavm {

// Symbolic name of a positive errno, "ENOENT"; "EUNKNOWN" for a number that Linux does not define.
const char* ErrnoName(int error);

// "no such file or directory". One table of our own, because the texts of glibc and musl differ.
const char* ErrnoText(int error);

// An Error object with code, errno, syscall and (unless null) path: "ENOENT: no such file or directory, open '/x'".
napi_value SystemError(napi_env env, int error, const char* call, const char* path = nullptr);

// Throws a SystemError and returns the empty value, so that a function can `return Fail(…)`.
Napi::Value Fail(napi_env env, int error, const char* call, const char* path = nullptr);

inline Napi::Value Fail(napi_env env, int error, const char* call, const std::string& path) {
  return Fail(env, error, call, path.c_str());
}

}  // namespace yavm
