// Calls on absolute paths and on names in an open directory (the …At family).
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "file_stat.h"
#include "name.h"
#include "open_beneath.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

constexpr int64_t kModeBits = 0177777;
// A race with a rename makes openat2 answer EAGAIN; a path that is renamed all the time is the attacker's own loss.
constexpr int kOpenAttempts = 32;

Napi::Value Done(Args& args, int result, const char* call, const std::string& path) {
  if (result < 0) return Fail(args.Env(), errno, call, path);
  return Nothing();
}

Napi::Value StatOf(Args& args, int dir, const std::string& path, int flags, const char* call) {
  struct stat stat;
  if (fstatat(dir, path.c_str(), &stat, flags) < 0) return Fail(args.Env(), errno, call, path);
  return Napi::Value(args.Env(), StatObject(args.Env(), stat));
}

Napi::Value ReadLinkOf(Args& args, int dir, const std::string& path) {
  char target[4096];
  const ssize_t length = readlinkat(dir, path.c_str(), target, sizeof target);
  if (length < 0) return Fail(args.Env(), errno, "readlink", path);
  return Napi::Value(args.Env(), MakeName(args.Env(), target, static_cast<size_t>(length)));
}

}  // namespace

bool TimeOf(double seconds, struct timespec* time) {
  if (fabs(seconds) > static_cast<double>(kMaxSafeInteger)) return false;
  time->tv_sec = static_cast<time_t>(floor(seconds));
  time->tv_nsec = static_cast<long>((seconds - floor(seconds)) * 1e9);
  return true;
}

Napi::Value Open(const Napi::CallbackInfo& info) {
  Args args(info, "open");
  const std::string path = args.Text(0, "path");
  const int flags = static_cast<int>(args.Integer(1, "flags", 0, INT32_MAX));
  const mode_t mode = static_cast<mode_t>(args.Integer(2, "mode", 0, 07777));
  if (!args.Ok()) return Nothing();
  const int fd = Retry([&] { return open(path.c_str(), flags | O_CLOEXEC, mode); });
  if (fd < 0) return Fail(args.Env(), errno, "open", path);
  return Number(args.Env(), fd);
}

int OpenInRoot(int root, const std::string& path, int flags, mode_t mode) {
  OpenHow how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  // openat2 refuses a mode without a flag that creates.
  const bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
  how.mode = creates ? mode : 0;
  how.resolve = kResolveInRoot | kResolveNoMagicLinks;
  long fd = -1;
  for (int attempt = 0; attempt < kOpenAttempts; attempt++) {
    fd = syscall(SYS_openat2, root, path.c_str(), &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  return static_cast<int>(fd);
}

Napi::Value OpenBeneath(const Napi::CallbackInfo& info) {
  Args args(info, "openBeneath");
  const int root = args.Fd(0, "rootFd");
  const std::string path = args.Text(1, "path");
  const int flags = static_cast<int>(args.Integer(2, "flags", 0, INT32_MAX));
  const mode_t mode = static_cast<mode_t>(args.Integer(3, "mode", 0, 07777));
  if (!args.Ok()) return Nothing();
  const int fd = OpenInRoot(root, path, flags, mode);
  if (fd < 0) return Fail(args.Env(), errno, "openat2", path);
  return Number(args.Env(), fd);
}

Napi::Value Stat(const Napi::CallbackInfo& info) {
  Args args(info, "stat");
  const std::string path = args.Text(0, "path");
  return args.Ok() ? StatOf(args, AT_FDCWD, path, 0, "stat") : Nothing();
}

Napi::Value Lstat(const Napi::CallbackInfo& info) {
  Args args(info, "lstat");
  const std::string path = args.Text(0, "path");
  return args.Ok() ? StatOf(args, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, "lstat") : Nothing();
}

Napi::Value StatAt(const Napi::CallbackInfo& info) {
  Args args(info, "statAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  return args.Ok() ? StatOf(args, dir, name, AT_SYMLINK_NOFOLLOW, "fstatat") : Nothing();
}

Napi::Value ReadLink(const Napi::CallbackInfo& info) {
  Args args(info, "readlink");
  const std::string path = args.Text(0, "path");
  return args.Ok() ? ReadLinkOf(args, AT_FDCWD, path) : Nothing();
}

Napi::Value ReadLinkAt(const Napi::CallbackInfo& info) {
  Args args(info, "readlinkAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  return args.Ok() ? ReadLinkOf(args, dir, name) : Nothing();
}

Napi::Value Mkdir(const Napi::CallbackInfo& info) {
  Args args(info, "mkdir");
  const std::string path = args.Text(0, "path");
  const mode_t mode = static_cast<mode_t>(args.Integer(1, "mode", 0, 07777));
  return args.Ok() ? Done(args, mkdir(path.c_str(), mode), "mkdir", path) : Nothing();
}

Napi::Value MkdirAt(const Napi::CallbackInfo& info) {
  Args args(info, "mkdirAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  const mode_t mode = static_cast<mode_t>(args.Integer(2, "mode", 0, 07777));
  return args.Ok() ? Done(args, mkdirat(dir, name.c_str(), mode), "mkdirat", name) : Nothing();
}

Napi::Value Symlink(const Napi::CallbackInfo& info) {
  Args args(info, "symlink");
  const std::string target = args.Text(0, "target");
  const std::string path = args.Text(1, "path");
  return args.Ok() ? Done(args, symlink(target.c_str(), path.c_str()), "symlink", path) : Nothing();
}

Napi::Value SymlinkAt(const Napi::CallbackInfo& info) {
  Args args(info, "symlinkAt");
  const std::string target = args.Text(0, "target");
  const int dir = args.Fd(1, "dirFd");
  const std::string name = args.Text(2, "name");
  return args.Ok() ? Done(args, symlinkat(target.c_str(), dir, name.c_str()), "symlinkat", name) : Nothing();
}

Napi::Value LinkAt(const Napi::CallbackInfo& info) {
  Args args(info, "linkAt");
  const int old_dir = args.Fd(0, "oldDirFd");
  const std::string old_name = args.Text(1, "oldName");
  const int new_dir = args.Fd(2, "newDirFd");
  const std::string new_name = args.Text(3, "newName");
  if (!args.Ok()) return Nothing();
  return Done(args, linkat(old_dir, old_name.c_str(), new_dir, new_name.c_str(), 0), "linkat", new_name);
}

Napi::Value RenameAt(const Napi::CallbackInfo& info) {
  Args args(info, "renameAt");
  const int old_dir = args.Fd(0, "oldDirFd");
  const std::string old_name = args.Text(1, "oldName");
  const int new_dir = args.Fd(2, "newDirFd");
  const std::string new_name = args.Text(3, "newName");
  if (!args.Ok()) return Nothing();
  return Done(args, renameat(old_dir, old_name.c_str(), new_dir, new_name.c_str()), "renameat", old_name);
}

Napi::Value Mknod(const Napi::CallbackInfo& info) {
  Args args(info, "mknod");
  const std::string path = args.Text(0, "path");
  const mode_t mode = static_cast<mode_t>(args.Integer(1, "mode", 0, kModeBits));
  const dev_t device = makedev(args.Unsigned(2, "major"), args.Unsigned(3, "minor"));
  return args.Ok() ? Done(args, mknod(path.c_str(), mode, device), "mknod", path) : Nothing();
}

Napi::Value MknodAt(const Napi::CallbackInfo& info) {
  Args args(info, "mknodAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  const mode_t mode = static_cast<mode_t>(args.Integer(2, "mode", 0, kModeBits));
  const dev_t device = makedev(args.Unsigned(3, "major"), args.Unsigned(4, "minor"));
  return args.Ok() ? Done(args, mknodat(dir, name.c_str(), mode, device), "mknodat", name) : Nothing();
}

Napi::Value Unlink(const Napi::CallbackInfo& info) {
  Args args(info, "unlink");
  const std::string path = args.Text(0, "path");
  return args.Ok() ? Done(args, unlink(path.c_str()), "unlink", path) : Nothing();
}

Napi::Value Rmdir(const Napi::CallbackInfo& info) {
  Args args(info, "rmdir");
  const std::string path = args.Text(0, "path");
  return args.Ok() ? Done(args, rmdir(path.c_str()), "rmdir", path) : Nothing();
}

Napi::Value UnlinkAt(const Napi::CallbackInfo& info) {
  Args args(info, "unlinkAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  const bool directory = args.Flag(2, "directory");
  if (!args.Ok()) return Nothing();
  return Done(args, unlinkat(dir, name.c_str(), directory ? AT_REMOVEDIR : 0), "unlinkat", name);
}

Napi::Value ChownAt(const Napi::CallbackInfo& info) {
  Args args(info, "chownAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  const uid_t uid = args.Unsigned(2, "uid");
  const gid_t gid = args.Unsigned(3, "gid");
  if (!args.Ok()) return Nothing();
  return Done(args, fchownat(dir, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW), "fchownat", name);
}

// No AT_SYMLINK_NOFOLLOW: the kernels that the guest boots have no fchmodat2(2). For folders that only the caller changes.
Napi::Value ChmodAt(const Napi::CallbackInfo& info) {
  Args args(info, "chmodAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  const mode_t mode = args.Unsigned(2, "mode");
  if (!args.Ok()) return Nothing();
  return Done(args, fchmodat(dir, name.c_str(), mode, 0), "fchmodat", name);
}

Napi::Value UtimesAt(const Napi::CallbackInfo& info) {
  Args args(info, "utimesAt");
  const int dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  const double seconds = args.Number(2, "seconds");
  if (!args.Ok()) return Nothing();
  struct timespec time;
  if (!TimeOf(seconds, &time)) return Fail(args.Env(), EINVAL, "utimensat", name);
  const struct timespec times[2] = {time, time};
  return Done(args, utimensat(dir, name.c_str(), times, AT_SYMLINK_NOFOLLOW), "utimensat", name);
}

}  // namespace yavm
