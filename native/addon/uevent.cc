// The kernel's announcements of devices (NETLINK_KOBJECT_UEVENT).
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// The group that the kernel speaks to; udev's own is 2.
constexpr uint32_t kKernelGroup = 1;
// UEVENT_BUFFER_SIZE is 2048; the path of the device comes before it.
constexpr size_t kMessage = 8192;

// One datagram; false with an errno when there is none.
bool Receive(int fd, char* buffer, size_t room, size_t* size, bool* fromKernel) {
  struct sockaddr_nl from = {};
  socklen_t length = sizeof from;
  const ssize_t count = Retry([&] {
    return recvfrom(fd, buffer, room, MSG_DONTWAIT, reinterpret_cast<struct sockaddr*>(&from), &length);
  });
  if (count < 0) return false;
  *size = static_cast<size_t>(count);
  *fromKernel = length == sizeof from && from.nl_family == AF_NETLINK && from.nl_pid == 0;
  return true;
}

}  // namespace

Napi::Value UeventOpen(const Napi::CallbackInfo& info) {
  const int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
  if (fd < 0) return Fail(info.Env(), errno, "socket");
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelGroup;
  if (bind(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address) < 0) {
    const int error = errno;
    close(fd);
    return Fail(info.Env(), error, "bind");
  }
  return Number(info.Env(), fd);
}

Napi::Value UeventRead(const Napi::CallbackInfo& info) {
  Args args(info, "ueventRead");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  char buffer[kMessage];
  size_t size = 0;
  bool fromKernel = false;
  if (!Receive(fd, buffer, sizeof buffer, &size, &fromKernel)) {
    if (errno == EAGAIN) return Napi::Value(args.Env(), MakeNull(args.Env()));
    return Fail(args.Env(), errno, "recvfrom");
  }
  // Root in the task can write to our socket too, and is not believed.
  return Napi::Value(args.Env(), MakeText(args.Env(), buffer, fromKernel ? size : 0));
}

}  // namespace yavm
