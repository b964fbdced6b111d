// A JS value → bytes, in the shortest form. Values come from the agent itself, so a wrong one is a bug and throws.
#include <math.h>
#include <string.h>

#include <string>

#include "args.h"
#include "cbor.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

class Encoder {
 public:
  explicit Encoder(napi_env env) : env_(env) {}

  // False with a JS exception.
  bool Item(napi_value value, int depth) {
    if (depth > kCborDepth) return Refuse("nested too deeply");
    napi_valuetype type;
    if (napi_typeof(env_, value, &type) != napi_ok) return false;
    switch (type) {
      case napi_undefined:
        return Simple(kCborUndefined);
      case napi_null:
        return Simple(kCborNull);
      case napi_boolean: {
        bool flag = false;
        napi_get_value_bool(env_, value, &flag);
        return Simple(flag ? kCborTrue : kCborFalse);
      }
      case napi_number: {
        double number = 0;
        napi_get_value_double(env_, value, &number);
        return Number(number);
      }
      case napi_string:
        return Text(value);
      case napi_object:
        return Object(value, depth);
      default:
        return Refuse("a value that no message holds");
    }
  }

  const std::string& bytes() const { return out_; }

 private:
  void Head(uint8_t major, uint64_t argument) {
    const uint8_t high = static_cast<uint8_t>(major << 5);
    if (argument < 24) {
      out_.push_back(static_cast<char>(high | argument));
      return;
    }
    const int width = argument <= UINT8_MAX ? 1 : argument <= UINT16_MAX ? 2 : argument <= UINT32_MAX ? 4 : 8;
    out_.push_back(static_cast<char>(high | (width == 1 ? 24 : width == 2 ? 25 : width == 4 ? 26 : 27)));
    Big(argument, width);
  }

  void Big(uint64_t value, int width) {
    for (int shift = 8 * (width - 1); shift >= 0; shift -= 8) out_.push_back(static_cast<char>(value >> shift));
  }

  bool Simple(uint8_t value) {
    Head(kCborSimple, value);
    return true;
  }

  bool Number(double number) {
    const bool whole = number == floor(number) && fabs(number) <= static_cast<double>(kMaxSafeInteger);
    if (whole && !(number == 0 && signbit(number))) {
      if (number >= 0) Head(kCborUnsigned, static_cast<uint64_t>(number));
      else Head(kCborNegative, static_cast<uint64_t>(-1 - number));
      return true;
    }
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    out_.push_back(static_cast<char>(kCborSimple << 5 | kCborFloat64));
    Big(bits, sizeof bits);
    return true;
  }

  bool Text(napi_value value) {
    size_t size = 0;
    if (napi_get_value_string_utf8(env_, value, nullptr, 0, &size) != napi_ok) return false;
    Head(kCborText, size);
    const size_t start = out_.size();
    // The call writes a NUL after the text.
    out_.resize(start + size + 1);
    if (napi_get_value_string_utf8(env_, value, &out_[start], size + 1, &size) != napi_ok) return false;
    out_.resize(start + size);
    return true;
  }

  bool Object(napi_value value, int depth) {
    bool is = false;
    if (napi_is_array(env_, value, &is) != napi_ok) return false;
    if (is) return Array(value, depth);
    if (napi_is_typedarray(env_, value, &is) != napi_ok) return false;
    return is ? ByteString(value) : Map(value, depth);
  }

  bool ByteString(napi_value value) {
    napi_typedarray_type type;
    size_t length = 0;
    void* data = nullptr;
    if (napi_get_typedarray_info(env_, value, &type, &length, &data, nullptr, nullptr) != napi_ok) return false;
    if (type != napi_uint8_array) return Refuse("a value that no message holds");
    Head(kCborBytes, length);
    out_.append(static_cast<const char*>(data), length);
    return true;
  }

  bool Array(napi_value array, int depth) {
    uint32_t count = 0;
    if (napi_get_array_length(env_, array, &count) != napi_ok) return false;
    Head(kCborArray, count);
    for (uint32_t index = 0; index < count; index++) {
      napi_value item = nullptr;
      if (napi_get_element(env_, array, index, &item) != napi_ok || !Item(item, depth + 1)) return false;
    }
    return true;
  }

  bool Map(napi_value object, int depth) {
    napi_value names = nullptr;
    if (napi_get_property_names(env_, object, &names) != napi_ok) return false;
    uint32_t count = 0;
    napi_get_array_length(env_, names, &count);
    Head(kCborMap, count);
    for (uint32_t index = 0; index < count; index++) {
      napi_value name = nullptr, item = nullptr;
      if (napi_get_element(env_, names, index, &name) != napi_ok || !Text(name)) return false;
      if (napi_get_property(env_, object, name, &item) != napi_ok || !Item(item, depth + 1)) return false;
    }
    return true;
  }

  bool Refuse(const char* why) {
    napi_throw_error(env_, "ERR_CBOR", why);
    return false;
  }

  napi_env env_;
  std::string out_;
};

}  // namespace

Napi::Value CborEncode(const Napi::CallbackInfo& info) {
  Args args(info, "cborEncode");
  if (info.Length() != 1) {
    args.Reject("value", "given");
    return Nothing();
  }
  Encoder encoder(args.Env());
  if (!encoder.Item(info[0], 0)) return Nothing();
  const std::string& bytes = encoder.bytes();
  return Napi::Value(args.Env(),
                     MakeBytes(args.Env(), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

}  // namespace yavm
