// guest/protocol/frames.ts, the part that native code takes part in.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace yavm {

constexpr uint8_t kFrameData = 2;
constexpr uint8_t kFrameEnd = 3;
constexpr uint8_t kFrameCredit = 4;

// Length, type, stream.
constexpr size_t kFrameHeader = 9;
// The part of the header that the length counts.
constexpr size_t kCounted = 5;
constexpr size_t kCreditPayload = 4;

inline void PutU32(uint8_t* at, uint32_t value) {
  for (int i = 0; i < 4; i++) at[i] = static_cast<uint8_t>(value >> (8 * i));
}

inline uint32_t GetU32(const uint8_t* at) {
  return at[0] | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16 |
         static_cast<uint32_t>(at[3]) << 24;
}

inline void PutHeader(uint8_t* at, uint8_t type, uint32_t stream, size_t payload) {
  PutU32(at, static_cast<uint32_t>(payload + kCounted));
  at[4] = type;
  PutU32(at + 5, stream);
}

}  // namespace yavm
