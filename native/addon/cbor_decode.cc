// Bytes → a JS value. The peer is not trusted: every length is checked against the bytes that are there, nesting is
// bounded, so is the number of values, and nothing but plain data can come out.
#include <math.h>
#include <string.h>

#include "args.h"
#include "cbor.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

class Decoder {
 public:
  Decoder(napi_env env, Bytes bytes) : env_(env), at_(bytes.data), end_(bytes.data + bytes.size) {}

  // The one value that the bytes hold, or null with a JS exception.
  napi_value Whole() {
    napi_value value = Item(0);
    if (value && at_ != end_) return Refuse("bytes after the message");
    return value;
  }

 private:
  napi_value Item(int depth) {
    if (depth > kCborDepth) return Refuse("nested too deeply");
    uint8_t major, low;
    uint64_t argument;
    if (!Head(&major, &low, &argument)) return nullptr;
    switch (major) {
      case kCborUnsigned:
        return MakeNumber(env_, static_cast<double>(argument));
      case kCborNegative:
        return MakeNumber(env_, -1.0 - static_cast<double>(argument));
      case kCborBytes:
      case kCborText:
        return String(major, argument);
      case kCborArray:
        return Array(argument, depth);
      case kCborMap:
        return Map(argument, depth);
      case kCborTag:
        return Refuse("tagged value");
      default:
        return Simple(low, argument);
    }
  }

  // The head of an item; its argument is the value, length, count or float bits. False with a JS exception.
  bool Head(uint8_t* major, uint8_t* low, uint64_t* argument) {
    if (--values_ < 0) return RefuseFalse("too many values");
    if (at_ == end_) return RefuseFalse("message cut off");
    *major = *at_ >> 5;
    *low = *at_ & 0x1f;
    at_++;
    if (*low < 24) {
      *argument = *low;
      return true;
    }
    if (*low > 27) return RefuseFalse("indefinite length");
    const size_t width = size_t{1} << (*low - 24);
    if (static_cast<size_t>(end_ - at_) < width) return RefuseFalse("message cut off");
    *argument = 0;
    for (size_t index = 0; index < width; index++) *argument = *argument << 8 | *at_++;
    return true;
  }

  napi_value String(uint8_t major, uint64_t length) {
    if (major == kCborBytes && --objects_ < 0) return Refuse("too many lists, maps and byte strings");
    if (length > static_cast<size_t>(end_ - at_)) return Refuse("string longer than the message");
    const uint8_t* bytes = at_;
    at_ += length;
    const size_t size = static_cast<size_t>(length);
    if (major == kCborBytes) return MakeBytes(env_, bytes, size);
    return MakeText(env_, reinterpret_cast<const char*>(bytes), size);
  }

  // Grows as items are found: a count that the bytes cannot hold ends at the first item that is not there.
  napi_value Array(uint64_t count, int depth) {
    if (--objects_ < 0) return Refuse("too many lists, maps and byte strings");
    napi_value array = MakeArray(env_, 0);
    for (uint64_t index = 0; index < count; index++) {
      napi_value item = Item(depth + 1);
      if (!item) return nullptr;
      SetElement(env_, array, static_cast<size_t>(index), item);
    }
    return array;
  }

  napi_value Map(uint64_t count, int depth) {
    if (--objects_ < 0) return Refuse("too many lists, maps and byte strings");
    napi_value map = MakeObject(env_);
    for (uint64_t index = 0; index < count; index++) {
      const char* key = nullptr;
      size_t size = 0;
      if (!Key(&key, &size)) return nullptr;
      napi_value name = MakeText(env_, key, size);
      napi_value item = Item(depth + 1);
      if (!item) return nullptr;
      napi_set_property(env_, map, name, item);
    }
    return map;
  }

  bool Key(const char** key, size_t* size) {
    uint8_t major, low;
    uint64_t length;
    if (!Head(&major, &low, &length)) return false;
    if (major != kCborText) return RefuseFalse("map key is not text");
    if (length > static_cast<size_t>(end_ - at_)) return RefuseFalse("string longer than the message");
    *key = reinterpret_cast<const char*>(at_);
    *size = static_cast<size_t>(length);
    at_ += length;
    // Setting it would change what the object inherits from.
    if (*size == 9 && memcmp(*key, "__proto__", 9) == 0) return RefuseFalse("map key __proto__");
    return true;
  }

  napi_value Simple(uint8_t low, uint64_t bits) {
    switch (low) {
      case kCborFalse:
      case kCborTrue:
        return MakeFlag(env_, low == kCborTrue);
      case kCborNull:
        return MakeNull(env_);
      case kCborUndefined: {
        napi_value undefined = nullptr;
        napi_get_undefined(env_, &undefined);
        return undefined;
      }
      case kCborFloat16:
        return MakeNumber(env_, Half(static_cast<uint16_t>(bits)));
      case kCborFloat32: {
        const uint32_t narrow = static_cast<uint32_t>(bits);
        float number;
        memcpy(&number, &narrow, sizeof number);
        return MakeNumber(env_, static_cast<double>(number));
      }
      case kCborFloat64: {
        double number;
        memcpy(&number, &bits, sizeof number);
        return MakeNumber(env_, number);
      }
      default:
        return Refuse("unknown simple value");
    }
  }

  // RFC 8949, appendix D.
  static double Half(uint16_t bits) {
    const int exponent = bits >> 10 & 0x1f;
    const int mantissa = bits & 0x3ff;
    const double size = exponent == 0    ? ldexp(mantissa, -24)
                        : exponent != 31 ? ldexp(mantissa + 1024, exponent - 25)
                        : mantissa == 0  ? static_cast<double>(INFINITY)
                                         : static_cast<double>(NAN);
    return bits & 0x8000 ? -size : size;
  }

  napi_value Refuse(const char* why) {
    napi_throw_error(env_, "ERR_CBOR", why);
    return nullptr;
  }

  bool RefuseFalse(const char* why) { return Refuse(why) != nullptr; }

  napi_env env_;
  const uint8_t* at_;
  const uint8_t* end_;
  int values_ = kCborValues;
  int objects_ = kCborObjects;
};

}  // namespace

Napi::Value CborDecode(const Napi::CallbackInfo& info) {
  Args args(info, "cborDecode");
  const Bytes bytes = args.Buffer(0, "bytes");
  if (!args.Ok()) return Nothing();
  napi_value value = Decoder(args.Env(), bytes).Whole();
  return value ? Napi::Value(args.Env(), value) : Nothing();
}

}  // namespace yavm
