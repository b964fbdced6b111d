// Sockets that the host's network is connected by: cables between QEMU and a relay, and their like to other programs.
#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

constexpr int kMaxBuffer = 1 << 28;
// Whoever else connects to a port in the moment that it listens, at most; and how long our own connection may take.
constexpr int kMaxStrangers = 64;
constexpr int kAcceptMilliseconds = 1000;

SocketError Failed(const char* call) { return SocketError{call, errno}; }

sockaddr* Generic(sockaddr_in* address) { return reinterpret_cast<sockaddr*>(address); }

void NoDelay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

SocketError UdpCable(int buffer, OwnedFd* near, OwnedFd* far) {
  sockaddr_in near_address;
  sockaddr_in far_address;
  SocketError failed = OpenInet(SOCK_DGRAM, buffer, near, &near_address);
  if (!failed.call) failed = OpenInet(SOCK_DGRAM, buffer, far, &far_address);
  if (failed.call) return failed;
  if (connect(near->get(), Generic(&far_address), sizeof far_address) < 0) return Failed("connect");
  if (connect(far->get(), Generic(&near_address), sizeof near_address) < 0) return Failed("connect");
  // What somebody sent before the two were connected would be taken for the peer's.
  for (const OwnedFd* end : {near, far}) {
    char byte;
    while (recv(end->get(), &byte, 1, MSG_DONTWAIT) >= 0) continue;
  }
  return SocketError();
}

SocketError TcpCable(int buffer, OwnedFd* near, OwnedFd* far) {
  OwnedFd listener;
  sockaddr_in address;
  sockaddr_in mine;
  SocketError failed = OpenInet(SOCK_STREAM, buffer, &listener, &address);
  if (!failed.call) failed = OpenInet(SOCK_STREAM, buffer, near, &mine);
  if (failed.call) return failed;
  if (listen(listener.get(), kMaxStrangers) < 0) return Failed("listen");
  if (connect(near->get(), Generic(&address), sizeof address) < 0 && errno != EINPROGRESS) return Failed("connect");
  for (int tries = 0; tries < kMaxStrangers; tries++) {
    pollfd waiting = {listener.get(), POLLIN, 0};
    if (poll(&waiting, 1, kAcceptMilliseconds) == 0) break;
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    far->Reset(accept4(listener.get(), Generic(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (far->get() < 0) continue;
    if (peer.sin_port != mine.sin_port) continue;
    NoDelay(near->get());
    NoDelay(far->get());
    return SocketError();
  }
  return SocketError{"accept", ETIMEDOUT};
}

SocketError UnixCable(int type, int buffer, OwnedFd* near, OwnedFd* far) {
  int fds[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) return Failed("socketpair");
  near->Reset(fds[0]);
  far->Reset(fds[1]);
  SetBuffers(fds[0], buffer);
  SetBuffers(fds[1], buffer);
  return SocketError();
}

sockaddr_in InetArgs(Args& args) {
  sockaddr_in address{};
  const std::string text = args.Text(0, "address", INET_ADDRSTRLEN);
  const auto port = static_cast<uint16_t>(args.Integer(1, "port", 1, UINT16_MAX));
  if (!ParseInet(text, port, &address)) args.Reject("address", "an IPv4 address");
  return address;
}

}  // namespace

void OwnedFd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

bool ParseInet(const std::string& address, uint16_t port, sockaddr_in* out) {
  *out = {};
  out->sin_family = AF_INET;
  out->sin_port = htons(port);
  return inet_pton(AF_INET, address.c_str(), &out->sin_addr) == 1;
}

sockaddr_in LoopbackAny() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void SetBuffers(int fd, int bytes) {
  if (bytes == 0) return;
  const struct {
    int forced;
    int plain;
  } options[] = {{SO_RCVBUFFORCE, SO_RCVBUF}, {SO_SNDBUFFORCE, SO_SNDBUF}};
  for (const auto& [forced, plain] : options) {
    if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) < 0) {
      setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
    }
  }
}

SocketError OpenInet(int type, int buffer, OwnedFd* fd, sockaddr_in* bound) {
  fd->Reset(socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd->get() < 0) return Failed("socket");
  // Before a TCP socket is connected: the size decides how large a window can be told.
  SetBuffers(fd->get(), buffer);
  if (!bound) return SocketError();
  *bound = LoopbackAny();
  socklen_t size = sizeof *bound;
  if (bind(fd->get(), Generic(bound), size) < 0) return Failed("bind");
  if (getsockname(fd->get(), Generic(bound), &size) < 0) return Failed("getsockname");
  return SocketError();
}

Napi::Value Cable(const Napi::CallbackInfo& info) {
  Args args(info, "cable");
  const std::string kind = args.Text(0, "kind", 16);
  const int buffer = static_cast<int>(args.Integer(1, "buffer", 0, kMaxBuffer));
  const bool known = kind == "udp" || kind == "unix-datagram" || kind == "tcp" || kind == "unix";
  if (!known) args.Reject("kind", "'udp', 'unix-datagram', 'tcp' or 'unix'");
  if (!args.Ok()) return Nothing();
  OwnedFd near;
  OwnedFd far;
  SocketError failed;
  if (kind == "udp") {
    failed = UdpCable(buffer, &near, &far);
  } else if (kind == "tcp") {
    failed = TcpCable(buffer, &near, &far);
  } else {
    failed = UnixCable(kind == "unix" ? SOCK_STREAM : SOCK_DGRAM, buffer, &near, &far);
  }
  if (failed.call) return Fail(args.Env(), failed.error, failed.call);
  return Pair(args.Env(), near.Release(), far.Release());
}

Napi::Value UdpConnect(const Napi::CallbackInfo& info) {
  Args args(info, "udpConnect");
  sockaddr_in address = InetArgs(args);
  const int buffer = static_cast<int>(args.Integer(2, "buffer", 0, kMaxBuffer));
  if (!args.Ok()) return Nothing();
  OwnedFd fd;
  sockaddr_in bound;
  SocketError failed = OpenInet(SOCK_DGRAM, buffer, &fd, &bound);
  if (!failed.call && connect(fd.get(), Generic(&address), sizeof address) < 0) failed = Failed("connect");
  if (failed.call) return Fail(args.Env(), failed.error, failed.call);
  return Pair(args.Env(), fd.Release(), ntohs(bound.sin_port));
}

// The kernel shows its filter a datagram from the UDP header on, 8 bytes.
Napi::Value DropShort(const Napi::CallbackInfo& info) {
  Args args(info, "dropShort");
  const int fd = args.Fd(0, "fd");
  const uint32_t least = static_cast<uint32_t>(args.Integer(1, "least", 0, 0xffff));
  if (!args.Ok()) return Nothing();
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 8 + least, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog filter = {sizeof program / sizeof program[0], program};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0) {
    return Fail(args.Env(), errno, "setsockopt");
  }
  return Nothing();
}

Napi::Value TcpConnect(const Napi::CallbackInfo& info) {
  Args args(info, "tcpConnect");
  sockaddr_in address = InetArgs(args);
  if (!args.Ok()) return Nothing();
  OwnedFd fd;
  SocketError failed = OpenInet(SOCK_STREAM, 0, &fd, nullptr);
  if (!failed.call) NoDelay(fd.get());
  if (!failed.call && connect(fd.get(), Generic(&address), sizeof address) < 0 && errno != EINPROGRESS) {
    failed = Failed("connect");
  }
  if (failed.call) return Fail(args.Env(), failed.error, failed.call);
  return Number(args.Env(), fd.Release());
}

Napi::Value TcpListen(const Napi::CallbackInfo& info) {
  OwnedFd fd;
  sockaddr_in bound;
  SocketError failed = OpenInet(SOCK_STREAM, 0, &fd, &bound);
  if (!failed.call && listen(fd.get(), 1) < 0) failed = Failed("listen");
  if (failed.call) return Fail(info.Env(), failed.error, failed.call);
  return Pair(info.Env(), fd.Release(), ntohs(bound.sin_port));
}

}  // namespace yavm
