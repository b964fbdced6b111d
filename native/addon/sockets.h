// Sockets of the host's network: how they are made. Node's alone.
#pragma once

#include <napi.h>
#include <netinet/in.h>

#include <string>

#include "args.h"

namespace yavm {

// A descriptor that is closed unless it is handed on.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  ~OwnedFd() { Reset(-1); }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  int get() const { return fd_; }
  void Reset(int fd);
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_ = -1;
};

// The call that failed, null when none did, and its errno.
struct SocketError {
  const char* call = nullptr;
  int error = 0;
};

// An IPv4 address in text and a port, both in network order. False when the text is no such address.
bool ParseInet(const std::string& address, uint16_t port, sockaddr_in* out);

// 127.0.0.1 and a port of the system's choice.
sockaddr_in LoopbackAny();

// A socket, close-on-exec and non-blocking, with buffers of `buffer` bytes (0: the system's own size), bound to 127.0.0.1 and
// a port of the system's choice where `bound` is given; that address is written there.
SocketError OpenInet(int type, int buffer, OwnedFd* fd, sockaddr_in* bound);

// Best effort: above the limits in /proc/sys/net/core where we are root, up to them else.
void SetBuffers(int fd, int bytes);

}  // namespace yavm
