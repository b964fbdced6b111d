// Large files with as few copies as there can be: under emulation they are what costs.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// Block of the file systems that there are, and page: what direct writes are made of.
constexpr size_t kBlock = 4096;
// What a device wants of an address.
constexpr uintptr_t kAlignment = 512;
// Fewer zeros than this are written: a hole costs an extent, and another call.
constexpr size_t kLeastHole = 64 * 1024;
// Fewer bytes than this are left to the page cache, where whoever reads them next finds them.
constexpr size_t kLeastDirect = 128 * 1024;

bool IsZero(const uint8_t* block) {
  uint64_t any = 0;
  for (size_t at = 0; at < kBlock && !any; at += 4 * sizeof any) {
    uint64_t words[4];
    memcpy(words, block + at, sizeof words);
    any = words[0] | words[1] | words[2] | words[3];
  }
  return !any;
}

// Bytes from the start that are whole blocks of zeros.
size_t Zeros(const uint8_t* bytes, size_t size) {
  size_t at = 0;
  while (size - at >= kBlock && IsZero(bytes + at)) at += kBlock;
  return at;
}

// Bytes from the start up to zeros that are worth a hole.
size_t Content(const uint8_t* bytes, size_t size) {
  for (size_t at = 0; size - at >= kLeastHole;) {
    const size_t zeros = Zeros(bytes + at, size - at);
    if (zeros >= kLeastHole) return at;
    at += zeros + kBlock;
    if (at > size) break;
  }
  return size;
}

int WriteAt(int fd, const uint8_t* bytes, size_t size, int64_t offset, size_t* done) {
  *done = 0;
  while (*done < size) {
    const ssize_t count =
        Retry([&] { return pwrite(fd, bytes + *done, size - *done, static_cast<off_t>(offset + *done)); });
    if (count < 0) return errno;
    *done += static_cast<size_t>(count);
  }
  return 0;
}

// Past the page cache: no copy, no dirty pages that others have to wait for, and an error of the disk is seen now.
int WriteDirect(int fd, const uint8_t* bytes, size_t size, int64_t offset, size_t* done) {
  *done = 0;
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_DIRECT) < 0) return 0;
  const int error = WriteAt(fd, bytes, size, offset, done);
  fcntl(fd, F_SETFL, flags);
  // A file system, or a disk of larger sectors, that does not like it after all.
  return error == EINVAL ? 0 : error;
}

int WriteContent(int fd, const uint8_t* bytes, size_t size, int64_t offset) {
  size_t done = 0;
  const bool aligned = offset % static_cast<int64_t>(kBlock) == 0 && reinterpret_cast<uintptr_t>(bytes) % kAlignment == 0;
  if (aligned && size >= kLeastDirect) {
    const int error = WriteDirect(fd, bytes, size / kBlock * kBlock, offset, &done);
    if (error) return error;
  }
  size_t rest = 0;
  return WriteAt(fd, bytes + done, size - done, offset + static_cast<int64_t>(done), &rest);
}

}  // namespace

Napi::Value PageOffset(const Napi::CallbackInfo& info) {
  Args args(info, "pageOffset");
  const Bytes buffer = args.Buffer(0, "buffer");
  if (!args.Ok()) return Nothing();
  return Number(args.Env(), static_cast<double>(reinterpret_cast<uintptr_t>(buffer.data) % kBlock));
}

Napi::Value WriteSparse(const Napi::CallbackInfo& info) {
  Args args(info, "writeSparse");
  const int fd = args.Fd(0, "fd");
  const Bytes buffer = args.Buffer(1, "buffer");
  const int64_t offset = args.Integer(2, "offset", 0, kMaxSafeInteger);
  if (!args.Ok()) return Nothing();
  const bool blocks = offset % static_cast<int64_t>(kBlock) == 0;
  size_t at = 0;
  size_t end = 0;
  while (at < buffer.size) {
    const size_t size = blocks ? Content(buffer.data + at, buffer.size - at) : buffer.size;
    const int error = WriteContent(fd, buffer.data + at, size, offset + static_cast<int64_t>(at));
    if (error) return Fail(args.Env(), error, "pwrite");
    at += size;
    if (size > 0) end = at;
    at += Zeros(buffer.data + at, buffer.size - at);
  }
  return Number(args.Env(), static_cast<double>(buffer.size - end));
}

Napi::Value Truncate(const Napi::CallbackInfo& info) {
  Args args(info, "truncate");
  const int fd = args.Fd(0, "fd");
  const int64_t size = args.Integer(1, "size", 0, kMaxSafeInteger);
  if (!args.Ok()) return Nothing();
  if (ftruncate(fd, static_cast<off_t>(size)) < 0) return Fail(args.Env(), errno, "ftruncate");
  return Nothing();
}

Napi::Value Splice(const Napi::CallbackInfo& info) {
  Args args(info, "splice");
  const int from = args.Fd(0, "from");
  const int to = args.Fd(1, "to");
  const size_t most = static_cast<size_t>(args.Integer(2, "most", 0, INT32_MAX));
  if (!args.Ok()) return Nothing();
  const ssize_t count = Retry([&] { return splice(from, nullptr, to, nullptr, most, SPLICE_F_MORE); });
  if (count < 0 && errno != EAGAIN) return Fail(args.Env(), errno, "splice");
  return Number(args.Env(), static_cast<double>(count));
}

}  // namespace yavm
