// Decoding of arguments. The first wrong one throws a TypeError that names call and argument; every later
// access then answers a harmless default, so that a function decodes all and asks Ok() once.
#pragma once

#include <napi.h>
#include <stdint.h>

#include <string>
#include <vector>

namespace yavm {

// Longest path, name or option string taken; PATH_MAX itself is the kernel's to enforce (ENAMETOOLONG).
constexpr size_t kMaxText = 64 * 1024;
constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

// A view of a Uint8Array's bytes: valid until the call returns.
struct Bytes {
  uint8_t* data = nullptr;
  size_t size = 0;
};

class Args {
 public:
  Args(const Napi::CallbackInfo& info, const char* call) : info_(info), env_(info.Env()), call_(call) {}

  bool Ok() const { return ok_; }
  napi_env Env() const { return env_; }

  // By position, from 0; `name` is for the message.
  int Fd(size_t index, const char* name) { return static_cast<int>(Integer(index, name, 0, INT32_MAX)); }
  int64_t Integer(size_t index, const char* name, int64_t least, int64_t most) {
    return IntegerOf(At(index), name, least, most);
  }
  uint32_t Unsigned(size_t index, const char* name) {
    return static_cast<uint32_t>(Integer(index, name, 0, UINT32_MAX));
  }
  // A finite number.
  double Number(size_t index, const char* name);
  bool Flag(size_t index, const char* name) { return FlagOf(At(index), name); }
  std::string Text(size_t index, const char* name, size_t longest = kMaxText) {
    return TextOf(At(index), name, longest);
  }
  // Text or null (undefined counts as null): false and an empty `out` for null.
  bool TextOrNull(size_t index, const char* name, std::string* out, size_t longest = kMaxText);
  Bytes Buffer(size_t index, const char* name);
  napi_value Callback(size_t index, const char* name) { return CallbackOf(At(index), name); }
  napi_value Object(size_t index, const char* name);

  // By value: elements of arrays and properties of options.
  int64_t IntegerOf(napi_value value, const char* name, int64_t least, int64_t most);
  bool FlagOf(napi_value value, const char* name);
  // Never with a NUL inside: the kernel would see another string than the caller.
  // Bytes, so that it can name any file: see name.h.
  std::string TextOf(napi_value value, const char* name, size_t longest = kMaxText);
  napi_value CallbackOf(napi_value value, const char* name);
  // The elements of an array with at most `most` of them.
  std::vector<napi_value> ListOf(napi_value value, const char* name, size_t most);
  std::vector<int64_t> IntegersOf(napi_value value, const char* name, size_t most, int64_t least, int64_t highest);
  // A property, or null when it is absent or undefined.
  napi_value Property(napi_value object, const char* name);

  // Throws the TypeError `call: name must be expected`.
  void Reject(const char* name, const std::string& expected);

 private:
  napi_value At(size_t index) const { return index < info_.Length() ? napi_value(info_[index]) : nullptr; }
  napi_valuetype TypeOf(napi_value value);

  const Napi::CallbackInfo& info_;
  napi_env env_;
  const char* call_;
  bool ok_ = true;
};

}  // namespace yavm
