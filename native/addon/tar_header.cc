// A header block of a tar archive. The guest reads one for every file that comes: in the interpreter its 512 bytes would
// take longer than the file.
#include "tar_header.h"

#include <string.h>

#include "args.h"
#include "exports.h"
#include "name.h"
#include "value.h"

namespace yavm {
namespace {

struct Field {
  const char* name;
  size_t at;
  size_t size;
};

// POSIX 1003.1, "ustar Interchange Format"; guest/files/tar-header.ts writes the same.
constexpr Field kName = {"name", 0, 100};
constexpr Field kChecksum = {"checksum", 148, 8};
constexpr size_t kFlag = 156;
constexpr Field kLinkName = {"linkName", 157, 100};
constexpr size_t kMagic = 257;
constexpr Field kPrefix = {"prefix", 345, 155};
// In the order of TarNumber.
constexpr Field kNumbers[kTarNumbers] = {{"mode", 100, 8},   {"uid", 108, 8},   {"gid", 116, 8},  {"size", 124, 12},
                              {"mtime", 136, 12}, {"major", 329, 8}, {"minor", 337, 8}};
constexpr uint64_t kLargest = kMaxSafeInteger;

// Big-endian with the top bit set (GNU); negative numbers are two's complement.
const char* Binary(const uint8_t* bytes, size_t size, double* number) {
  const bool negative = bytes[0] == 0xFF;
  uint64_t value = negative ? 0 : bytes[0] & 0x7F;
  for (size_t i = 1; i < size; i++) {
    if (value > kLargest >> 8) return "number beyond 2^53";
    // Inverted bytes count up to −1 − value.
    value = value << 8 | (negative ? 0xFF - bytes[i] : bytes[i]);
  }
  if (value > kLargest) return "number beyond 2^53";
  *number = negative ? -1 - static_cast<double>(value) : static_cast<double>(value);
  return nullptr;
}

// Octal digits among spaces and NULs, or binary. What is wrong with it, or null.
const char* Number(const uint8_t* block, const Field& field, double* number) {
  const uint8_t* bytes = block + field.at;
  if (bytes[0] & 0x80) return Binary(bytes, field.size, number);
  uint64_t value = 0;
  bool started = false;
  bool ended = false;
  for (size_t i = 0; i < field.size; i++) {
    if (bytes[i] == 0 || bytes[i] == ' ') {
      ended = started;
    } else if (bytes[i] >= '0' && bytes[i] <= '7' && !ended) {
      started = true;
      value = value << 3 | (bytes[i] - '0');
    } else {
      return "damaged number";
    }
  }
  *number = static_cast<double>(value);
  return nullptr;
}

// The sum of all bytes, the checksum itself counted as spaces; some old programs summed signed bytes.
bool SumsUp(const uint8_t* block, double stored) {
  int64_t plain = 0;
  int64_t with_sign = 0;
  for (size_t i = 0; i < kTarBlock; i++) {
    const bool own = i >= kChecksum.at && i < kChecksum.at + kChecksum.size;
    plain += own ? ' ' : block[i];
    with_sign += own ? ' ' : static_cast<int8_t>(block[i]);
  }
  return stored == static_cast<double>(plain) || stored == static_cast<double>(with_sign);
}

std::string Text(const uint8_t* block, const Field& field) {
  const char* start = reinterpret_cast<const char*>(block) + field.at;
  return std::string(start, strnlen(start, field.size));
}

napi_value Name(napi_env env, const std::string& bytes) { return MakeName(env, bytes.data(), bytes.size()); }

}  // namespace

bool IsTarEnd(const uint8_t* block) {
  for (size_t i = 0; i < kTarBlock; i++) {
    if (block[i]) return false;
  }
  return true;
}

bool DecodeTarHeader(const uint8_t* block, TarHeader* header, std::string* wrong) {
  const Field* field = &kChecksum;
  double sum = 0;
  const char* problem = Number(block, kChecksum, &sum);
  if (!problem && !SumsUp(block, sum)) {
    *wrong = "header with a wrong checksum";
    return false;
  }
  for (size_t i = 0; !problem && i < kTarNumbers; i++) {
    field = &kNumbers[i];
    problem = Number(block, *field, &header->numbers[i]);
  }
  if (problem) {
    *wrong = std::string(problem) + " in field '" + field->name + "'";
    return false;
  }
  // An empty flag is the oldest format's file.
  header->flag = block[kFlag] ? block[kFlag] : '0';
  // GNU's own format (magic "ustar " and a space) has times and more where the prefix is.
  header->name = memcmp(block + kMagic, "ustar", 6) == 0 ? Text(block, kPrefix) : std::string();
  if (!header->name.empty()) header->name.push_back('/');
  header->name += Text(block, kName);
  header->link_name = Text(block, kLinkName);
  return true;
}

Napi::Value ReadTarHeader(const Napi::CallbackInfo& info) {
  Args args(info, "tarHeader");
  const Bytes bytes = args.Buffer(0, "bytes");
  const size_t at = static_cast<size_t>(args.Integer(1, "offset", 0, kMaxSafeInteger));
  if (args.Ok() && (bytes.size < kTarBlock || at > bytes.size - kTarBlock)) args.Reject("bytes", "a whole block");
  if (!args.Ok()) return Nothing();
  napi_env env = args.Env();
  if (IsTarEnd(bytes.data + at)) return Napi::Value(env, MakeNull(env));
  TarHeader header;
  std::string wrong;
  if (!DecodeTarHeader(bytes.data + at, &header, &wrong)) return Napi::Value(env, MakeText(env, wrong));
  napi_value fields = MakeArray(env, 0);
  uint32_t index = 0;
  SetElement(env, fields, index++, MakeNumber(env, header.flag));
  SetElement(env, fields, index++, Name(env, header.name));
  SetElement(env, fields, index++, Name(env, header.link_name));
  for (double number : header.numbers) SetElement(env, fields, index++, MakeNumber(env, number));
  return Napi::Value(env, fields);
}

}  // namespace yavm
