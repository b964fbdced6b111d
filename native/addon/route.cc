// Routes of the main table.
#include <errno.h>
#include <sys/socket.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "netlink.h"
#include "value.h"

namespace yavm {
namespace {

struct RouteArgs {
  std::string name;
  int family = AF_INET;
  bool has_destination = false;
  NetlinkAddress destination;
  uint8_t prefix = 0;
  bool has_gateway = false;
  NetlinkAddress gateway;
  uint32_t metric = 0;
};

RouteArgs Decode(Args& args) {
  RouteArgs route;
  std::string destination, gateway;
  route.name = args.Text(0, "name");
  route.has_destination = args.TextOrNull(1, "destination", &destination);
  route.has_gateway = args.TextOrNull(3, "gateway", &gateway);
  route.metric = args.Unsigned(4, "metric");
  if (route.has_destination && !ParseAddress(destination, &route.destination)) {
    args.Reject("destination", "an IPv4 or IPv6 address, or null");
  }
  if (route.has_gateway && !ParseAddress(gateway, &route.gateway)) {
    args.Reject("gateway", "an IPv4 or IPv6 address, or null");
  }
  if (route.has_destination) {
    route.family = route.destination.family;
    if (route.has_gateway && route.gateway.family != route.family) args.Reject("gateway", "of the destination's family");
  } else if (route.has_gateway) {
    route.family = route.gateway.family;
  }
  const int64_t most = !route.has_destination ? 0 : route.family == AF_INET ? 32 : 128;
  route.prefix = static_cast<uint8_t>(args.Integer(2, "prefix", 0, most));
  return route;
}

int Change(uint16_t type, uint16_t flags, const RouteArgs& route) {
  const int index = LinkIndex(route.name);
  if (index < 0) return -index;
  struct rtmsg header = {};
  header.rtm_family = static_cast<uint8_t>(route.family);
  header.rtm_dst_len = route.prefix;
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = type == RTM_NEWROUTE ? RTPROT_STATIC : RTPROT_UNSPEC;
  // An on-link IPv4 route has link scope; RT_SCOPE_NOWHERE matches any at removal.
  header.rtm_scope = route.has_gateway || route.family == AF_INET6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  if (type == RTM_DELROUTE) header.rtm_scope = RT_SCOPE_NOWHERE;
  header.rtm_type = type == RTM_NEWROUTE ? RTN_UNICAST : RTN_UNSPEC;
  NetlinkRequest request(type, static_cast<uint16_t>(flags | NLM_F_ACK), &header, sizeof header);
  if (route.has_destination && route.prefix > 0) {
    request.Attribute(RTA_DST, route.destination.bytes, route.destination.size);
  }
  if (route.has_gateway) request.Attribute(RTA_GATEWAY, route.gateway.bytes, route.gateway.size);
  request.AttributeU32(RTA_OIF, static_cast<uint32_t>(index));
  if (route.metric) request.AttributeU32(RTA_PRIORITY, route.metric);
  return request.Transact();
}

Napi::Value Run(Args& args, uint16_t type, uint16_t flags, const char* call) {
  const RouteArgs route = Decode(args);
  if (!args.Ok()) return Nothing();
  const int error = Change(type, flags, route);
  if (error) return Fail(args.Env(), error, call, route.name);
  return Nothing();
}

}  // namespace

Napi::Value RouteAdd(const Napi::CallbackInfo& info) {
  Args args(info, "routeAdd");
  return Run(args, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, "RTM_NEWROUTE");
}

Napi::Value RouteRemove(const Napi::CallbackInfo& info) {
  Args args(info, "routeRemove");
  return Run(args, RTM_DELROUTE, 0, "RTM_DELROUTE");
}

}  // namespace yavm
