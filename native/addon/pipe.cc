// Pairs of descriptors: pipes and socket pairs.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

constexpr int kSocketBuffer = 1024 * 1024;

}  // namespace

Napi::Value Pipe(const Napi::CallbackInfo& info) {
  Args args(info, "pipe");
  const std::string ends = args.Text(0, "nonBlocking", 16);
  const int size = static_cast<int>(args.Integer(1, "size", 0, 1 << 30));
  const bool both = ends == "both";
  if (!both && ends != "none" && ends != "read" && ends != "write") {
    args.Reject("nonBlocking", "'read', 'write', 'none' or 'both'");
  }
  if (!args.Ok()) return Nothing();
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) < 0) return Fail(args.Env(), errno, "pipe2");
  // Best effort: an unprivileged user may be over /proc/sys/fs/pipe-user-pages-soft, and a small pipe works too.
  if (size > 0) fcntl(fds[1], F_SETPIPE_SZ, size);
  if (both || ends == "read") fcntl(fds[0], F_SETFL, O_RDONLY | O_NONBLOCK);
  if (both || ends == "write") fcntl(fds[1], F_SETFL, O_WRONLY | O_NONBLOCK);
  return Pair(args.Env(), fds[0], fds[1]);
}

Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) return Fail(info.Env(), errno, "socketpair");
  // QEMU sends a guest's pages one by one, and the kernel counts 8 KiB for each: the default holds two dozen. Best
  // effort, up to /proc/sys/net/core/wmem_max.
  const int bytes = kSocketBuffer;
  for (int fd : fds) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  return Pair(info.Env(), fds[0], fds[1]);
}

Napi::Value SocketListener(const Napi::CallbackInfo& info) {
  Args args(info, "socketListener");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = args.Text(0, "path", sizeof address.sun_path - 1);
  if (!args.Ok()) return Nothing();
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const char* failed = nullptr;
  int error = 0;
  const auto check = [&](bool fine, const char* call) {
    if (!fine) {
      failed = call;
      error = errno;
    }
    return fine;
  };
  if (check(listener >= 0 && client >= 0, "socket") && check(bind(listener, name, sizeof address) == 0, "bind")) {
    if (check(listen(listener, 1) == 0, "listen")) check(connect(client, name, sizeof address) == 0, "connect");
    unlink(path.c_str());
  }
  if (failed == nullptr) return Pair(args.Env(), listener, client);
  if (listener >= 0) close(listener);
  if (client >= 0) close(client);
  return Fail(args.Env(), error, failed, path);
}

}  // namespace yavm
