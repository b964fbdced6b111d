// NETLINK_ROUTE requests: built in memory, sent, answered.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

namespace yavm {

class NetlinkRequest {
 public:
  // `header` is the fixed part: ifinfomsg, ifaddrmsg, rtmsg.
  NetlinkRequest(uint16_t type, uint16_t flags, const void* header, size_t size);

  void Attribute(uint16_t type, const void* data, size_t size);
  void AttributeU32(uint16_t type, uint32_t value) { Attribute(type, &value, sizeof value); }

  // Sends and waits for the kernel's verdict. 0 or a positive errno.
  int Transact() const;

  // Sends a dump request and calls with each message's type, fixed part and size. 0 or a positive errno.
  using Visitor = void (*)(void* data, uint16_t type, const uint8_t* body, size_t size);
  int Dump(Visitor visit, void* data) const;

 private:
  // EINTR: the table changed meanwhile, begin again.
  int DumpOnce(Visitor visit, void* data) const;

  std::vector<uint8_t> bytes_;
};

// Walks the attributes of a message body after its fixed part; the first of each type is kept, none beyond `most`.
struct NetlinkAttributes {
  struct View {
    const uint8_t* data = nullptr;
    size_t size = 0;
  };
  NetlinkAttributes(const uint8_t* body, size_t size, size_t fixed, uint16_t most);
  std::vector<View> by_type;
};

// A textual IPv4 or IPv6 address in network order.
struct NetlinkAddress {
  int family = 0;  // AF_INET, AF_INET6
  size_t size = 0;
  uint8_t bytes[16] = {};
};

// False when the text is no address.
bool ParseAddress(const std::string& text, NetlinkAddress* address);

// Index of a link, or a negative errno.
int LinkIndex(const std::string& name);

}  // namespace yavm
