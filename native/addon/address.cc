// Addresses of links.
#include <errno.h>
#include <linux/if_addr.h>
#include <sys/socket.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "netlink.h"
#include "value.h"

namespace yavm {
namespace {

struct AddressArgs {
  std::string name;
  NetlinkAddress address;
  uint8_t prefix = 0;
};

AddressArgs Decode(Args& args) {
  AddressArgs decoded;
  decoded.name = args.Text(0, "name");
  if (!ParseAddress(args.Text(1, "address"), &decoded.address)) args.Reject("address", "an IPv4 or IPv6 address");
  decoded.prefix = static_cast<uint8_t>(args.Integer(2, "prefix", 0, static_cast<int64_t>(decoded.address.size) * 8));
  return decoded;
}

int Change(uint16_t type, uint16_t flags, const AddressArgs& change) {
  const int index = LinkIndex(change.name);
  if (index < 0) return -index;
  struct ifaddrmsg header = {};
  header.ifa_family = static_cast<uint8_t>(change.address.family);
  header.ifa_prefixlen = change.prefix;
  header.ifa_index = static_cast<uint32_t>(index);
  // The address is ours by configuration: waiting a second for a duplicate that cannot be there helps nobody.
  if (change.address.family == AF_INET6) header.ifa_flags = IFA_F_NODAD;
  NetlinkRequest request(type, static_cast<uint16_t>(flags | NLM_F_ACK), &header, sizeof header);
  request.Attribute(IFA_LOCAL, change.address.bytes, change.address.size);
  request.Attribute(IFA_ADDRESS, change.address.bytes, change.address.size);
  return request.Transact();
}

Napi::Value Run(Args& args, uint16_t type, uint16_t flags, const char* call) {
  const AddressArgs change = Decode(args);
  if (!args.Ok()) return Nothing();
  const int error = Change(type, flags, change);
  if (error) return Fail(args.Env(), error, call, change.name);
  return Nothing();
}

}  // namespace

Napi::Value AddressAdd(const Napi::CallbackInfo& info) {
  Args args(info, "addressAdd");
  return Run(args, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "RTM_NEWADDR");
}

Napi::Value AddressRemove(const Napi::CallbackInfo& info) {
  Args args(info, "addressRemove");
  return Run(args, RTM_DELADDR, 0, "RTM_DELADDR");
}

}  // namespace yavm
