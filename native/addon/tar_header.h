// A header block of a tar archive, decoded.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>

namespace yavm {

constexpr size_t kTarBlock = 512;

// In the order in which they are handed out.
enum TarNumber { kTarMode, kTarUid, kTarGid, kTarSize, kTarMtime, kTarMajor, kTarMinor, kTarNumbers };

struct TarHeader {
  uint8_t flag = 0;
  // Prefix and name.
  std::string name;
  std::string link_name;
  double numbers[kTarNumbers] = {};
};

// Whether a block is zeros, as those at the end are.
bool IsTarEnd(const uint8_t* block);

// False: it is none, and `wrong` says why.
bool DecodeTarHeader(const uint8_t* block, TarHeader* header, std::string* wrong);

}  // namespace yavm
