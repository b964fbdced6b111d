#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "sys.h"

namespace yavm {
namespace {

// The kernel answers at once; a deadline all the same, because PID 1 waits here.
constexpr time_t kAnswerSeconds = 5;
constexpr int kDumpAttempts = 8;
// What the kernel recommends for dumps: its messages are cut to at most this.
constexpr size_t kReceive = 32 * 1024;

class Socket {
 public:
  Socket() : fd_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), error_(fd_ < 0 ? errno : 0) {
    const struct timeval deadline = {kAnswerSeconds, 0};
    if (fd_ >= 0) setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
  }
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int error() const { return error_; }

  int Send(const std::vector<uint8_t>& bytes) const {
    struct sockaddr_nl kernel = {};
    kernel.nl_family = AF_NETLINK;
    const ssize_t sent = Retry([&] {
      return sendto(fd_, bytes.data(), bytes.size(), 0, reinterpret_cast<struct sockaddr*>(&kernel), sizeof kernel);
    });
    return sent < 0 ? errno : 0;
  }

  // Size of the next datagram of the kernel, or a negative errno.
  long Receive(std::vector<uint8_t>* buffer) const {
    for (;;) {
      struct sockaddr_nl from = {};
      socklen_t length = sizeof from;
      const ssize_t size = Retry([&] {
        return recvfrom(fd_, buffer->data(), buffer->size(), MSG_TRUNC, reinterpret_cast<struct sockaddr*>(&from), &length);
      });
      if (size < 0) return errno == EAGAIN ? -ETIMEDOUT : -errno;
      if (from.nl_pid != 0) continue;  // any process may write to our socket
      return static_cast<size_t>(size) > buffer->size() ? -EMSGSIZE : size;
    }
  }

 private:
  int fd_;
  int error_;
};

// The next message at `*at`, or null when the rest is too short for what it claims.
const struct nlmsghdr* NextMessage(const std::vector<uint8_t>& buffer, size_t size, size_t* at) {
  if (size - *at < sizeof(struct nlmsghdr)) return nullptr;
  const auto* message = reinterpret_cast<const struct nlmsghdr*>(buffer.data() + *at);
  if (message->nlmsg_len < sizeof *message || message->nlmsg_len > size - *at) return nullptr;
  const size_t step = NLMSG_ALIGN(message->nlmsg_len);
  *at = step > size - *at ? size : *at + step;
  return message;
}

// The errno in an NLMSG_ERROR message; 0 is its acknowledgement.
int ErrorOf(const struct nlmsghdr* message) {
  int32_t error = 0;
  if (message->nlmsg_len < sizeof *message + sizeof error) return EBADMSG;
  memcpy(&error, message + 1, sizeof error);
  return -error;
}

}  // namespace

NetlinkRequest::NetlinkRequest(uint16_t type, uint16_t flags, const void* header, size_t size) {
  struct nlmsghdr message = {};
  message.nlmsg_type = type;
  message.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  message.nlmsg_seq = 1;  // one request a socket
  bytes_.resize(NLMSG_ALIGN(sizeof message + size), 0);
  message.nlmsg_len = static_cast<uint32_t>(bytes_.size());
  memcpy(bytes_.data(), &message, sizeof message);
  memcpy(bytes_.data() + sizeof message, header, size);
}

void NetlinkRequest::Attribute(uint16_t type, const void* data, size_t size) {
  struct rtattr attribute = {};
  attribute.rta_type = type;
  attribute.rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
  const size_t at = bytes_.size();
  bytes_.resize(at + RTA_SPACE(size), 0);
  memcpy(bytes_.data() + at, &attribute, sizeof attribute);
  memcpy(bytes_.data() + at + RTA_LENGTH(0), data, size);
  const uint32_t length = static_cast<uint32_t>(bytes_.size());
  memcpy(bytes_.data(), &length, sizeof length);  // nlmsg_len is the first field
}

int NetlinkRequest::Transact() const {
  Socket socket;
  if (socket.error()) return socket.error();
  const int error = socket.Send(bytes_);
  if (error) return error;
  std::vector<uint8_t> buffer(kReceive);
  for (;;) {
    const long size = socket.Receive(&buffer);
    if (size < 0) return static_cast<int>(-size);
    size_t at = 0;
    while (const struct nlmsghdr* message = NextMessage(buffer, static_cast<size_t>(size), &at)) {
      if (message->nlmsg_type == NLMSG_ERROR) return ErrorOf(message);
    }
  }
}

int NetlinkRequest::Dump(Visitor visit, void* data) const {
  int error = EINTR;
  for (int attempt = 0; attempt < kDumpAttempts && error == EINTR; attempt++) error = DumpOnce(visit, data);
  return error;
}

int NetlinkRequest::DumpOnce(Visitor visit, void* data) const {
  Socket socket;
  if (socket.error()) return socket.error();
  const int error = socket.Send(bytes_);
  if (error) return error;
  std::vector<uint8_t> buffer(kReceive);
  bool interrupted = false;
  for (;;) {
    const long size = socket.Receive(&buffer);
    if (size < 0) return static_cast<int>(-size);
    size_t at = 0;
    while (const struct nlmsghdr* message = NextMessage(buffer, static_cast<size_t>(size), &at)) {
      if (message->nlmsg_flags & NLM_F_DUMP_INTR) interrupted = true;
      if (message->nlmsg_type == NLMSG_ERROR) return ErrorOf(message);
      if (message->nlmsg_type == NLMSG_DONE) return interrupted ? EINTR : 0;
      visit(data, message->nlmsg_type, reinterpret_cast<const uint8_t*>(message + 1),
            message->nlmsg_len - sizeof *message);
    }
  }
}

NetlinkAttributes::NetlinkAttributes(const uint8_t* body, size_t size, size_t fixed, uint16_t most)
    : by_type(static_cast<size_t>(most) + 1) {
  size_t at = NLMSG_ALIGN(fixed);
  while (at < size && size - at >= sizeof(struct rtattr)) {
    struct rtattr attribute;
    memcpy(&attribute, body + at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > size - at) return;
    const uint16_t type = attribute.rta_type & NLA_TYPE_MASK;
    if (type <= most && !by_type[type].data) {
      by_type[type].data = body + at + sizeof attribute;
      by_type[type].size = attribute.rta_len - sizeof attribute;
    }
    at += RTA_ALIGN(attribute.rta_len);
  }
}

bool ParseAddress(const std::string& text, NetlinkAddress* address) {
  address->family = text.find(':') == std::string::npos ? AF_INET : AF_INET6;
  address->size = address->family == AF_INET ? 4 : 16;
  return inet_pton(address->family, text.c_str(), address->bytes) == 1;
}

int LinkIndex(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) return -ENODEV;
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct ifreq request = {};
  memcpy(request.ifr_name, name.data(), name.size());
  const int result = ioctl(fd, SIOCGIFINDEX, &request) < 0 ? -errno : request.ifr_ifindex;
  close(fd);
  return result;
}

}  // namespace yavm
