// File systems: mount, umount, the change of the root.
#include <errno.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// mount(2) copies one page of options and cuts the rest off without an error.
constexpr size_t kMaxMountData = 4095;

}  // namespace

Napi::Value Mount(const Napi::CallbackInfo& info) {
  Args args(info, "mount");
  std::string source, type, data;
  const bool has_source = args.TextOrNull(0, "source", &source);
  const std::string target = args.Text(1, "target");
  const bool has_type = args.TextOrNull(2, "type", &type);
  const unsigned long flags = static_cast<unsigned long>(args.Integer(3, "flags", 0, UINT32_MAX));
  const bool has_data = args.TextOrNull(4, "data", &data, kMaxMountData);
  if (!args.Ok()) return Nothing();
  const int result = mount(has_source ? source.c_str() : nullptr, target.c_str(), has_type ? type.c_str() : nullptr,
                           flags, has_data ? data.c_str() : nullptr);
  if (result < 0) return Fail(args.Env(), errno, "mount", target);
  return Nothing();
}

Napi::Value Umount(const Napi::CallbackInfo& info) {
  Args args(info, "umount");
  const std::string target = args.Text(0, "target");
  const int flags = static_cast<int>(args.Integer(1, "flags", 0, INT32_MAX));
  if (!args.Ok()) return Nothing();
  if (umount2(target.c_str(), flags) < 0) return Fail(args.Env(), errno, "umount2", target);
  return Nothing();
}

Napi::Value SwitchRoot(const Napi::CallbackInfo& info) {
  Args args(info, "switchRoot");
  const std::string root = args.Text(0, "newRoot");
  if (!args.Ok()) return Nothing();
  if (chdir(root.c_str()) < 0) return Fail(args.Env(), errno, "chdir", root);
  if (mount(".", "/", nullptr, MS_MOVE, nullptr) < 0) return Fail(args.Env(), errno, "mount", root);
  if (chroot(".") < 0) return Fail(args.Env(), errno, "chroot", root);
  if (chdir("/") < 0) return Fail(args.Env(), errno, "chdir", "/");
  return Nothing();
}

Napi::Value PivotRoot(const Napi::CallbackInfo& info) {
  Args args(info, "pivotRoot");
  const std::string root = args.Text(0, "newRoot");
  const std::string old = args.Text(1, "putOld");
  if (!args.Ok()) return Nothing();
  if (syscall(SYS_pivot_root, root.c_str(), old.c_str()) < 0) return Fail(args.Env(), errno, "pivot_root", root);
  return Nothing();
}

Napi::Value Chroot(const Napi::CallbackInfo& info) {
  Args args(info, "chroot");
  const std::string path = args.Text(0, "path");
  if (!args.Ok()) return Nothing();
  if (chroot(path.c_str()) < 0) return Fail(args.Env(), errno, "chroot", path);
  return Nothing();
}

Napi::Value Statfs(const Napi::CallbackInfo& info) {
  Args args(info, "statfs");
  const std::string path = args.Text(0, "path");
  if (!args.Ok()) return Nothing();
  struct statfs stats;
  if (Retry([&] { return statfs(path.c_str(), &stats); }) < 0) return Fail(args.Env(), errno, "statfs", path);
  const double block = static_cast<double>(stats.f_bsize);
  napi_value object = MakeObject(args.Env());
  SetNumber(args.Env(), object, "type", static_cast<double>(stats.f_type));
  SetNumber(args.Env(), object, "blockSize", block);
  SetNumber(args.Env(), object, "total", static_cast<double>(stats.f_blocks) * block);
  SetNumber(args.Env(), object, "free", static_cast<double>(stats.f_bfree) * block);
  SetNumber(args.Env(), object, "available", static_cast<double>(stats.f_bavail) * block);
  SetNumber(args.Env(), object, "files", static_cast<double>(stats.f_files));
  SetNumber(args.Env(), object, "filesFree", static_cast<double>(stats.f_ffree));
  return Napi::Value(args.Env(), object);
}

}  // namespace yavm
