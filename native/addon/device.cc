// ioctl(2). (Device nodes: path.cc.)
#include <errno.h>
#include <sys/ioctl.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

// Bits of a request number that say how many bytes the kernel reads or writes (_IOC_SIZE); 0 in the old numbers.
size_t SizeOf(uint32_t request) { return (request >> 16) & 0x3fff; }

}  // namespace

Napi::Value IoctlInt(const Napi::CallbackInfo& info) {
  Args args(info, "ioctlInt");
  const int fd = args.Fd(0, "fd");
  const uint32_t request = args.Unsigned(1, "request");
  const int64_t argument = args.Integer(2, "argument", -kMaxSafeInteger, kMaxSafeInteger);
  if (!args.Ok()) return Nothing();
  const int result = ioctl(fd, request, static_cast<unsigned long>(argument));
  if (result < 0) return Fail(args.Env(), errno, "ioctl");
  return Number(args.Env(), result);
}

Napi::Value IoctlBuffer(const Napi::CallbackInfo& info) {
  Args args(info, "ioctlBuffer");
  const int fd = args.Fd(0, "fd");
  const uint32_t request = args.Unsigned(1, "request");
  const Bytes buffer = args.Buffer(2, "buffer");
  if (args.Ok() && buffer.size < SizeOf(request)) {
    args.Reject("buffer", "at least " + std::to_string(SizeOf(request)) + " bytes long, as the request says");
  }
  if (!args.Ok()) return Nothing();
  const int result = ioctl(fd, request, buffer.data);
  if (result < 0) return Fail(args.Env(), errno, "ioctl");
  return Number(args.Env(), result);
}

}  // namespace yavm
