// Network links: list, up and down, name, MTU, MAC.
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "netlink.h"
#include "value.h"

namespace yavm {
namespace {

constexpr size_t kMaxLinks = 4096;
constexpr size_t kMacBytes = 6;
constexpr int64_t kMaxMtu = 1 << 20;

struct LinkRow {
  int index = 0;
  bool up = false;
  std::string name;
  std::string mac;
  uint32_t mtu = 0;
  uint64_t rx_bytes = 0;
  uint64_t tx_bytes = 0;
};

std::string MacText(const NetlinkAttributes::View& view) {
  std::string text;
  for (size_t i = 0; i < view.size && i < 32; i++) {
    char part[4];
    snprintf(part, sizeof part, i ? ":%02x" : "%02x", view.data[i]);
    text += part;
  }
  return text;
}

bool ParseMac(const std::string& text, uint8_t* mac) {
  unsigned parts[kMacBytes];
  char rest = 0;
  if (text.size() != kMacBytes * 3 - 1) return false;
  const int count = sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &parts[0], &parts[1], &parts[2], &parts[3],
                           &parts[4], &parts[5], &rest);
  if (count != static_cast<int>(kMacBytes)) return false;
  for (size_t i = 0; i < kMacBytes; i++) mac[i] = static_cast<uint8_t>(parts[i]);
  return true;
}

// Copies an attribute of known size; 0 when the kernel left it out.
template <typename T>
T ValueOf(const NetlinkAttributes::View& view) {
  T value = {};
  if (view.size >= sizeof value) memcpy(&value, view.data, sizeof value);
  return value;
}

void VisitLink(void* data, uint16_t type, const uint8_t* body, size_t size) {
  auto* rows = static_cast<std::vector<LinkRow>*>(data);
  struct ifinfomsg header;
  if (type != RTM_NEWLINK || size < sizeof header || rows->size() >= kMaxLinks) return;
  memcpy(&header, body, sizeof header);
  const NetlinkAttributes attributes(body, size, sizeof header, IFLA_STATS64);
  const auto& name = attributes.by_type[IFLA_IFNAME];
  const auto stats = ValueOf<struct rtnl_link_stats64>(attributes.by_type[IFLA_STATS64]);
  LinkRow row;
  row.index = header.ifi_index;
  row.up = header.ifi_flags & IFF_UP;
  if (name.size > 0) row.name.assign(reinterpret_cast<const char*>(name.data), strnlen(reinterpret_cast<const char*>(name.data), name.size));
  row.mac = MacText(attributes.by_type[IFLA_ADDRESS]);
  row.mtu = ValueOf<uint32_t>(attributes.by_type[IFLA_MTU]);
  row.rx_bytes = stats.rx_bytes;
  row.tx_bytes = stats.tx_bytes;
  rows->push_back(row);
}

struct LinkChange {
  bool has_up = false;
  bool up = false;
  uint32_t mtu = 0;
  bool has_mac = false;
  uint8_t mac[kMacBytes] = {};
  std::string rename;
};

int SetFlag(int index, bool up) {
  struct ifinfomsg header = {};
  header.ifi_index = index;
  header.ifi_change = IFF_UP;
  header.ifi_flags = up ? IFF_UP : 0;
  return NetlinkRequest(RTM_NEWLINK, NLM_F_ACK, &header, sizeof header).Transact();
}

int SetAttributes(int index, const LinkChange& change) {
  struct ifinfomsg header = {};
  header.ifi_index = index;
  NetlinkRequest request(RTM_NEWLINK, NLM_F_ACK, &header, sizeof header);
  if (change.has_mac) request.Attribute(IFLA_ADDRESS, change.mac, sizeof change.mac);
  if (change.mtu) request.AttributeU32(IFLA_MTU, change.mtu);
  if (!change.rename.empty()) request.Attribute(IFLA_IFNAME, change.rename.c_str(), change.rename.size() + 1);
  return request.Transact();
}

// Down comes first and up last: many drivers change name or MAC only while the link is down.
int Apply(int index, const LinkChange& change) {
  int error = 0;
  if (change.has_up && !change.up) error = SetFlag(index, false);
  if (!error && (change.has_mac || change.mtu || !change.rename.empty())) error = SetAttributes(index, change);
  if (!error && change.has_up && change.up) error = SetFlag(index, true);
  return error;
}

LinkChange DecodeChange(Args& args, napi_value options) {
  LinkChange change;
  napi_value up = args.Property(options, "up");
  change.has_up = up != nullptr;
  if (up) change.up = args.FlagOf(up, "up");
  napi_value mtu = args.Property(options, "mtu");
  if (mtu) change.mtu = static_cast<uint32_t>(args.IntegerOf(mtu, "mtu", 1, kMaxMtu));
  napi_value mac = args.Property(options, "mac");
  if (mac) change.has_mac = ParseMac(args.TextOf(mac, "mac", 17), change.mac);
  if (mac && !change.has_mac) args.Reject("mac", "a MAC address, 02:00:00:00:00:01");
  napi_value rename = args.Property(options, "rename");
  if (rename) change.rename = args.TextOf(rename, "rename", IFNAMSIZ - 1);
  if (rename && change.rename.empty()) args.Reject("rename", "a name of 1 to 15 bytes");
  return change;
}

}  // namespace

Napi::Value Links(const Napi::CallbackInfo& info) {
  napi_env env = info.Env();
  struct ifinfomsg header = {};
  std::vector<LinkRow> rows;
  const int error = NetlinkRequest(RTM_GETLINK, NLM_F_DUMP, &header, sizeof header).Dump(VisitLink, &rows);
  if (error) return Fail(env, error, "RTM_GETLINK");
  napi_value list = MakeArray(env, rows.size());
  for (size_t i = 0; i < rows.size(); i++) {
    napi_value link = MakeObject(env);
    SetNumber(env, link, "index", rows[i].index);
    SetText(env, link, "name", rows[i].name);
    SetText(env, link, "mac", rows[i].mac);
    SetNumber(env, link, "mtu", rows[i].mtu);
    yavm::SetFlag(env, link, "up", rows[i].up);
    SetNumber(env, link, "rxBytes", static_cast<double>(rows[i].rx_bytes));
    SetNumber(env, link, "txBytes", static_cast<double>(rows[i].tx_bytes));
    SetElement(env, list, i, link);
  }
  return Napi::Value(env, list);
}

Napi::Value LinkSet(const Napi::CallbackInfo& info) {
  Args args(info, "linkSet");
  const std::string name = args.Text(0, "name");
  napi_value options = args.Object(1, "change");
  const LinkChange change = DecodeChange(args, options);
  if (!args.Ok()) return Nothing();
  const int index = LinkIndex(name);
  if (index < 0) return Fail(args.Env(), -index, "RTM_NEWLINK", name);
  const int error = Apply(index, change);
  if (error) return Fail(args.Env(), error, "RTM_NEWLINK", name);
  return Nothing();
}

}  // namespace yavm
