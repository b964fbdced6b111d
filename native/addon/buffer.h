// Memory that is not filled before its use, so that only what is used becomes resident.
#pragma once

#include <stdint.h>
#include <string.h>

#include <memory>

namespace yavm {

class Buffer {
 public:
  uint8_t* data() { return bytes_.get(); }
  size_t size() const { return size_; }

  // Changes the size, keeping the first `keep` bytes.
  void Resize(size_t size, size_t keep) {
    if (size == size_) return;
    std::unique_ptr<uint8_t[]> bytes(size > 0 ? new uint8_t[size] : nullptr);
    if (keep > 0) memcpy(bytes.get(), bytes_.get(), keep);
    bytes_ = std::move(bytes);
    size_ = size;
  }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t size_ = 0;
};

}  // namespace yavm
