// Pseudo terminals.
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "value.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

namespace yavm {
namespace {

constexpr int64_t kMaxWindow = UINT16_MAX;

struct winsize WindowSize(Args& args, size_t rows_index) {
  struct winsize size = {};
  size.ws_row = static_cast<unsigned short>(args.Integer(rows_index, "rows", 0, kMaxWindow));
  size.ws_col = static_cast<unsigned short>(args.Integer(rows_index + 1, "columns", 0, kMaxWindow));
  return size;
}

}  // namespace

Napi::Value OpenPty(const Napi::CallbackInfo& info) {
  Args args(info, "openPty");
  const struct winsize size = WindowSize(args, 0);
  if (!args.Ok()) return Nothing();
  const char* path = "/dev/ptmx";
  const int master = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (master < 0) return Fail(args.Env(), errno, "open", path);
  int locked = 0;
  // The slave through the master, not by name: it works whatever is mounted at /dev/pts, in a new root too.
  int slave = -1;
  if (ioctl(master, TIOCSPTLCK, &locked) == 0) slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0 || ioctl(master, TIOCSWINSZ, &size) < 0) {
    const int error = errno;
    if (slave >= 0) close(slave);
    close(master);
    return Fail(args.Env(), error, "ioctl", path);
  }
  return Pair(args.Env(), master, slave);
}

Napi::Value SetWindowSize(const Napi::CallbackInfo& info) {
  Args args(info, "setWindowSize");
  const int fd = args.Fd(0, "fd");
  const struct winsize size = WindowSize(args, 1);
  if (!args.Ok()) return Nothing();
  if (ioctl(fd, TIOCSWINSZ, &size) < 0) return Fail(args.Env(), errno, "ioctl");
  return Nothing();
}

}  // namespace yavm
