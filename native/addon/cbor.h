// The part of CBOR (RFC 8949) that messages use: integers, floats, text, byte strings, arrays, maps with text keys,
// booleans, null and undefined, all of definite length. No tags. guest/protocol/cbor.ts is the same rule for the host.
#pragma once

#include <stdint.h>

namespace yavm {

enum CborMajor : uint8_t {
  kCborUnsigned = 0,
  kCborNegative = 1,
  kCborBytes = 2,
  kCborText = 3,
  kCborArray = 4,
  kCborMap = 5,
  kCborTag = 6,
  kCborSimple = 7,
};

constexpr uint8_t kCborFalse = 20;
constexpr uint8_t kCborTrue = 21;
constexpr uint8_t kCborNull = 22;
constexpr uint8_t kCborUndefined = 23;
constexpr uint8_t kCborFloat16 = 25;
constexpr uint8_t kCborFloat32 = 26;
constexpr uint8_t kCborFloat64 = 27;

// Nesting allowed; the deepest message has 6 levels.
constexpr int kCborDepth = 16;
// Values in one message, names in maps included, and how many of them may be lists, maps and byte strings: an empty
// one of those is one byte there and some hundred on the heap.
constexpr int kCborValues = 65536;
constexpr int kCborObjects = 8192;

}  // namespace yavm
