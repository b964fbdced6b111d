// Extended attributes of an open file.
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "name.h"
#include "value.h"

namespace yavm {
namespace {

// XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel.
constexpr size_t kLongest = 64 * 1024;

bool IsUnsupported(int error) { return error == ENOTSUP || error == ENOSYS; }

}  // namespace

Napi::Value ListXattrs(const Napi::CallbackInfo& info) {
  Args args(info, "listXattrs");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  napi_env env = args.Env();
  // Nearly no file has any, and then nothing is copied.
  ssize_t size = flistxattr(fd, nullptr, 0);
  if (size == 0 || (size < 0 && IsUnsupported(errno))) return Napi::Value(env, MakeNull(env));
  std::vector<char> list(kLongest);
  if (size > 0) size = flistxattr(fd, list.data(), list.size());
  if (size < 0) return Fail(env, errno, "flistxattr");
  napi_value names = MakeArray(env, 0);
  uint32_t count = 0;
  for (size_t at = 0; at < static_cast<size_t>(size);) {
    const size_t length = strnlen(list.data() + at, static_cast<size_t>(size) - at);
    SetElement(env, names, count++, MakeName(env, list.data() + at, length));
    at += length + 1;
  }
  return Napi::Value(env, names);
}

Napi::Value GetXattr(const Napi::CallbackInfo& info) {
  Args args(info, "getXattr");
  const int fd = args.Fd(0, "fd");
  const std::string name = args.Text(1, "name");
  if (!args.Ok()) return Nothing();
  std::vector<uint8_t> value(kLongest);
  const ssize_t size = fgetxattr(fd, name.c_str(), value.data(), value.size());
  if (size < 0) return Fail(args.Env(), errno, "fgetxattr", name);
  return Napi::Value(args.Env(), MakeBytes(args.Env(), value.data(), static_cast<size_t>(size)));
}

Napi::Value SetXattr(const Napi::CallbackInfo& info) {
  Args args(info, "setXattr");
  const int fd = args.Fd(0, "fd");
  const std::string name = args.Text(1, "name");
  const Bytes value = args.Buffer(2, "value");
  if (!args.Ok()) return Nothing();
  if (fsetxattr(fd, name.c_str(), value.data, value.size, 0) < 0) return Fail(args.Env(), errno, "fsetxattr", name);
  return Nothing();
}

}  // namespace yavm
