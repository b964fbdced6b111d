// Offload switches of a link, by ethtool's ioctl.
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

struct Feature {
  const char* name;
  uint32_t command;
};

constexpr Feature kFeatures[] = {
    {"tx-checksum", ETHTOOL_STXCSUM}, {"rx-checksum", ETHTOOL_SRXCSUM}, {"sg", ETHTOOL_SSG},
    {"tso", ETHTOOL_STSO},            {"gso", ETHTOOL_SGSO},            {"gro", ETHTOOL_SGRO},
};

// 0 for an unknown name.
uint32_t CommandOf(const std::string& name) {
  for (const Feature& feature : kFeatures) {
    if (name == feature.name) return feature.command;
  }
  return 0;
}

}  // namespace

Napi::Value LinkFeature(const Napi::CallbackInfo& info) {
  Args args(info, "linkFeature");
  const std::string name = args.Text(0, "name");
  const uint32_t command = CommandOf(args.Text(1, "feature"));
  const bool on = args.Flag(2, "on");
  if (args.Ok() && command == 0) args.Reject("feature", "tx-checksum, rx-checksum, sg, tso, gso or gro");
  if (!args.Ok()) return Nothing();
  if (name.size() >= IFNAMSIZ) return Fail(args.Env(), ENODEV, "SIOCETHTOOL", name);
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Fail(args.Env(), errno, "socket");
  struct ethtool_value value = {};
  value.cmd = command;
  value.data = on;
  struct ifreq request = {};
  memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_data = reinterpret_cast<char*>(&value);
  const int error = ioctl(fd, SIOCETHTOOL, &request) < 0 ? errno : 0;
  close(fd);
  if (error) return Fail(args.Env(), error, "SIOCETHTOOL", name);
  return Nothing();
}

}  // namespace yavm
