// Calls on open descriptors: read, write, stat, seek, lock.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "file_stat.h"
#include "value.h"

namespace yavm {

napi_value StatObject(napi_env env, const struct stat& stat) {
  napi_value object = MakeObject(env);
  SetNumber(env, object, "mode", stat.st_mode);
  SetNumber(env, object, "uid", stat.st_uid);
  SetNumber(env, object, "gid", stat.st_gid);
  SetNumber(env, object, "size", static_cast<double>(stat.st_size));
  SetNumber(env, object, "mtime", static_cast<double>(stat.st_mtim.tv_sec) + stat.st_mtim.tv_nsec / 1e9);
  SetNumber(env, object, "dev", static_cast<double>(stat.st_dev));
  SetNumber(env, object, "ino", static_cast<double>(stat.st_ino));
  SetNumber(env, object, "nlink", static_cast<double>(stat.st_nlink));
  SetNumber(env, object, "rdev", static_cast<double>(stat.st_rdev));
  return object;
}

Napi::Value Close(const Napi::CallbackInfo& info) {
  Args args(info, "close");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  // After EINTR the descriptor is gone on Linux: closing again could hit another one.
  if (close(fd) < 0 && errno != EINTR) return Fail(args.Env(), errno, "close");
  return Nothing();
}

Napi::Value Dup(const Napi::CallbackInfo& info) {
  Args args(info, "dup");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return Fail(args.Env(), errno, "dup");
  return Number(args.Env(), copy);
}

Napi::Value Seek(const Napi::CallbackInfo& info) {
  Args args(info, "seek");
  const int fd = args.Fd(0, "fd");
  const int64_t offset = args.Integer(1, "offset", -kMaxSafeInteger, kMaxSafeInteger);
  const int whence = static_cast<int>(args.Integer(2, "whence", SEEK_SET, SEEK_HOLE));
  if (!args.Ok()) return Nothing();
  const off_t result = lseek(fd, static_cast<off_t>(offset), whence);
  if (result < 0) return Fail(args.Env(), errno, "lseek");
  return Number(args.Env(), static_cast<double>(result));
}

Napi::Value Read(const Napi::CallbackInfo& info) {
  Args args(info, "read");
  const int fd = args.Fd(0, "fd");
  const Bytes buffer = args.Buffer(1, "buffer");
  if (!args.Ok()) return Nothing();
  ssize_t count;
  do {
    count = read(fd, buffer.data, buffer.size);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno != EAGAIN) return Fail(args.Env(), errno, "read");
  return Number(args.Env(), static_cast<double>(count));
}

Napi::Value Write(const Napi::CallbackInfo& info) {
  Args args(info, "write");
  const int fd = args.Fd(0, "fd");
  const Bytes buffer = args.Buffer(1, "buffer");
  if (!args.Ok()) return Nothing();
  ssize_t count;
  do {
    count = write(fd, buffer.data, buffer.size);
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno != EAGAIN) return Fail(args.Env(), errno, "write");
  return Number(args.Env(), static_cast<double>(count));
}

Napi::Value Fsync(const Napi::CallbackInfo& info) {
  Args args(info, "fsync");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  if (fsync(fd) < 0) return Fail(args.Env(), errno, "fsync");
  return Nothing();
}

Napi::Value Fstat(const Napi::CallbackInfo& info) {
  Args args(info, "fstat");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  struct stat stat;
  if (fstat(fd, &stat) < 0) return Fail(args.Env(), errno, "fstat");
  return Napi::Value(args.Env(), StatObject(args.Env(), stat));
}

Napi::Value ChmodFd(const Napi::CallbackInfo& info) {
  Args args(info, "chmodFd");
  const int fd = args.Fd(0, "fd");
  const mode_t mode = static_cast<mode_t>(args.Integer(1, "mode", 0, 07777));
  if (!args.Ok()) return Nothing();
  if (fchmod(fd, mode) < 0) return Fail(args.Env(), errno, "fchmod");
  return Nothing();
}

Napi::Value ChownFd(const Napi::CallbackInfo& info) {
  Args args(info, "chownFd");
  const int fd = args.Fd(0, "fd");
  const uid_t uid = args.Unsigned(1, "uid");
  const gid_t gid = args.Unsigned(2, "gid");
  if (!args.Ok()) return Nothing();
  if (fchown(fd, uid, gid) < 0) return Fail(args.Env(), errno, "fchown");
  return Nothing();
}

Napi::Value SetNonBlocking(const Napi::CallbackInfo& info) {
  Args args(info, "setNonBlocking");
  const int fd = args.Fd(0, "fd");
  const bool on = args.Flag(1, "on");
  if (!args.Ok()) return Nothing();
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0) {
    return Fail(args.Env(), errno, "fcntl");
  }
  return Nothing();
}

Napi::Value Flock(const Napi::CallbackInfo& info) {
  Args args(info, "flock");
  const int fd = args.Fd(0, "fd");
  const bool exclusive = args.Flag(1, "exclusive");
  if (!args.Ok()) return Nothing();
  const bool taken = flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0;
  if (!taken && errno != EWOULDBLOCK) return Fail(args.Env(), errno, "flock");
  return yavm::Flag(args.Env(), taken);
}

Napi::Value Pending(const Napi::CallbackInfo& info) {
  Args args(info, "pending");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  int count = 0;
  if (ioctl(fd, FIONREAD, &count) < 0) return Fail(args.Env(), errno, "ioctl");
  return Number(args.Env(), count);
}

}  // namespace yavm
