// The machine as a whole: off and on, names, clock, entropy.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <sys/io.h>
#endif

#include "args.h"
#include "error.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

constexpr const char* kRandomDevice = "/dev/urandom";
// RNDADDENTROPY and RNDRESEEDCRNG of linux/random.h; the numbers of _IOW('R', 3, int[2]) and _IO('R', 7).
constexpr unsigned long kAddEntropy = 0x40085203;
constexpr unsigned long kReseed = 0x5207;
constexpr size_t kMaxEntropy = 4096;
// QEMU's isa-debug-exit device, as the host's argument builder places it.
constexpr unsigned short kDebugExitPort = 0xf4;

// struct rand_pool_info with room for the bytes.
struct EntropyRequest {
  int bits;
  int size;
  uint8_t bytes[kMaxEntropy];
};

}  // namespace

Napi::Value Sync(const Napi::CallbackInfo&) {
  sync();
  return Nothing();
}

Napi::Value Reboot(const Napi::CallbackInfo& info) {
  Args args(info, "reboot");
  const uint32_t command = args.Unsigned(0, "command");
  if (!args.Ok()) return Nothing();
  if (reboot(static_cast<int>(command)) < 0) return Fail(args.Env(), errno, "reboot");
  return Nothing();
}

Napi::Value DebugExit(const Napi::CallbackInfo& info) {
  Args args(info, "debugExit");
  const unsigned char value = static_cast<unsigned char>(args.Integer(0, "value", 0, UINT8_MAX));
  if (!args.Ok()) return Nothing();
#if defined(__x86_64__) || defined(__i386__)
  if (ioperm(kDebugExitPort, 1, 1) < 0) return Fail(args.Env(), errno, "ioperm");
  outb(value, kDebugExitPort);
  ioperm(kDebugExitPort, 1, 0);
#else
  (void)value;  // the device is on the ISA bus, which only x86 machines have
#endif
  return Nothing();
}

Napi::Value SetHostname(const Napi::CallbackInfo& info) {
  Args args(info, "setHostname");
  const std::string name = args.Text(0, "name");
  if (!args.Ok()) return Nothing();
  if (sethostname(name.data(), name.size()) < 0) return Fail(args.Env(), errno, "sethostname", name);
  return Nothing();
}

Napi::Value SetClock(const Napi::CallbackInfo& info) {
  Args args(info, "setClock");
  const double seconds = args.Number(0, "seconds");
  if (!args.Ok()) return Nothing();
  // Beyond this range the conversion to time_t is undefined; the kernel refuses far smaller ones.
  if (fabs(seconds) > static_cast<double>(kMaxSafeInteger)) return Fail(args.Env(), EINVAL, "clock_settime");
  struct timespec time;
  time.tv_sec = static_cast<time_t>(floor(seconds));
  time.tv_nsec = static_cast<long>((seconds - floor(seconds)) * 1e9);
  if (clock_settime(CLOCK_REALTIME, &time) < 0) return Fail(args.Env(), errno, "clock_settime");
  return Nothing();
}

Napi::Value Monotonic(const Napi::CallbackInfo& info) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return Number(info.Env(), static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6);
}

Napi::Value AddEntropy(const Napi::CallbackInfo& info) {
  Args args(info, "addEntropy");
  const Bytes bytes = args.Buffer(0, "bytes");
  if (args.Ok() && (bytes.size == 0 || bytes.size > kMaxEntropy)) {
    args.Reject("bytes", "1 to " + std::to_string(kMaxEntropy) + " bytes");
  }
  if (!args.Ok()) return Nothing();
  const int fd = open(kRandomDevice, O_RDWR | O_CLOEXEC);
  if (fd < 0) return Fail(args.Env(), errno, "open", kRandomDevice);
  EntropyRequest request;
  request.bits = static_cast<int>(bytes.size * 8);
  request.size = static_cast<int>(bytes.size);
  memcpy(request.bytes, bytes.data, bytes.size);
  const bool added = ioctl(fd, kAddEntropy, &request) == 0 && ioctl(fd, kReseed) == 0;
  const int error = errno;
  explicit_bzero(&request, sizeof request);
  close(fd);
  if (!added) return Fail(args.Env(), error, "ioctl", kRandomDevice);
  return Nothing();
}

Napi::Value Uname(const Napi::CallbackInfo& info) {
  napi_env env = info.Env();
  struct utsname names;
  if (uname(&names) < 0) return Fail(env, errno, "uname");
  napi_value object = MakeObject(env);
  SetText(env, object, "release", names.release);
  SetText(env, object, "version", names.version);
  SetText(env, object, "machine", names.machine);
  SetText(env, object, "nodename", names.nodename);
  return Napi::Value(env, object);
}

}  // namespace yavm
