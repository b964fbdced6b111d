#include "name.h"

#include <stdint.h>
#include <string.h>

#include <vector>

#include "args.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";
constexpr char16_t kEscape = 0xDC00;

bool IsAscii(const char* bytes, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (static_cast<uint8_t>(bytes[i]) >= 0x80) return false;
  }
  return true;
}

// The character at `bytes` and its length; 0 when it is no UTF-8.
size_t Decode(const uint8_t* bytes, size_t length, uint32_t* code) {
  // The least character that needs so many bytes: shorter ones are not to be written longer.
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const uint8_t lead = bytes[0];
  const size_t size = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF8 ? 4 : 0;
  if (size == 0 || size > length) return 0;
  *code = size == 1 ? lead : lead & (0x7F >> size);
  for (size_t i = 1; i < size; i++) {
    if ((bytes[i] & 0xC0) != 0x80) return 0;
    *code = *code << 6 | (bytes[i] & 0x3F);
  }
  const bool surrogate = *code >= 0xD800 && *code < 0xE000;
  return *code < kLeast[size] || *code > 0x10FFFF || surrogate ? 0 : size;
}

void Append(std::string* bytes, uint32_t code) {
  const size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr uint8_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  bytes->push_back(static_cast<char>(kLead[more] | code >> (6 * more)));
  for (size_t left = more; left > 0; left--) bytes->push_back(static_cast<char>(0x80 | (code >> (6 * (left - 1)) & 0x3F)));
}

}  // namespace

napi_value MakeName(napi_env env, const char* bytes, size_t length) {
  if (IsAscii(bytes, length)) return MakeText(env, bytes, length);
  std::vector<char16_t> units;
  units.reserve(length);
  for (size_t at = 0; at < length;) {
    uint32_t code = 0;
    const size_t size = Decode(reinterpret_cast<const uint8_t*>(bytes) + at, length - at, &code);
    if (size == 0) {
      units.push_back(static_cast<char16_t>(kEscape + static_cast<uint8_t>(bytes[at])));
    } else if (code < 0x10000) {
      units.push_back(static_cast<char16_t>(code));
    } else {
      units.push_back(static_cast<char16_t>(0xD800 + ((code - 0x10000) >> 10)));
      units.push_back(static_cast<char16_t>(0xDC00 + (code & 0x3FF)));
    }
    at += size == 0 ? 1 : size;
  }
  napi_value value = nullptr;
  napi_create_string_utf16(env, units.data(), units.size(), &value);
  return value;
}

bool NameBytes(napi_env env, napi_value value, std::string* bytes) {
  size_t length = 0;
  if (napi_get_value_string_utf16(env, value, nullptr, 0, &length) != napi_ok) return false;
  std::vector<char16_t> units(length + 1);
  if (napi_get_value_string_utf16(env, value, units.data(), units.size(), &length) != napi_ok) return false;
  bytes->clear();
  for (size_t i = 0; i < length; i++) {
    const uint32_t unit = units[i];
    const bool high = unit >= 0xD800 && unit < 0xDC00;
    const bool low = unit >= 0xDC00 && unit < 0xE000;
    if (high && i + 1 < length && units[i + 1] >= 0xDC00 && units[i + 1] < 0xE000) {
      Append(bytes, 0x10000 + ((unit - 0xD800) << 10) + (units[++i] - 0xDC00u));
    } else if (low && unit >= kEscape + 0x80u && unit <= kEscape + 0xFFu) {
      bytes->push_back(static_cast<char>(unit & 0xFF));
    } else if (high || low) {
      bytes->append(kReplacement);
    } else {
      Append(bytes, unit);
    }
  }
  return true;
}

bool MayBeEscaped(const std::string& text) { return text.find(kReplacement) != std::string::npos; }

Napi::Value DecodeName(const Napi::CallbackInfo& info) {
  Args args(info, "decodeName");
  const Bytes bytes = args.Buffer(0, "bytes");
  if (!args.Ok()) return Nothing();
  return Napi::Value(args.Env(), MakeName(args.Env(), reinterpret_cast<const char*>(bytes.data), bytes.size));
}

Napi::Value EncodeName(const Napi::CallbackInfo& info) {
  Args args(info, "encodeName");
  const std::string name = args.Text(0, "name");
  if (!args.Ok()) return Nothing();
  return Napi::Value(args.Env(),
                     MakeBytes(args.Env(), reinterpret_cast<const uint8_t*>(name.data()), name.size()));
}

}  // namespace yavm
