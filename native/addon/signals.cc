// Signals as a readable descriptor.
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

constexpr size_t kMaxSignals = 64;
constexpr size_t kBatch = 16;
// Real-time signals queue; one that is sent all the time must not keep us reading.
constexpr uint32_t kMaxRead = 1024;

}  // namespace

Napi::Value SignalFd(const Napi::CallbackInfo& info) {
  Args args(info, "signalFd");
  napi_value list = args.Object(0, "signals");
  sigset_t set;
  sigemptyset(&set);
  for (int64_t signal : args.IntegersOf(list, "signals", kMaxSignals, 1, kMaxSignals)) {
    sigaddset(&set, static_cast<int>(signal));
  }
  if (!args.Ok()) return Nothing();
  const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd < 0) return Fail(args.Env(), errno, "signalfd");
  const int error = pthread_sigmask(SIG_BLOCK, &set, nullptr);
  if (error) {
    close(fd);
    return Fail(args.Env(), error, "sigprocmask");
  }
  return Number(args.Env(), fd);
}

Napi::Value ReadSignals(const Napi::CallbackInfo& info) {
  Args args(info, "readSignals");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  napi_value list = MakeArray(args.Env(), 0);
  uint32_t count = 0;
  while (count < kMaxRead) {
    struct signalfd_siginfo signals[kBatch];
    const ssize_t size = Retry([&] { return read(fd, signals, sizeof signals); });
    if (size < 0 && errno != EAGAIN) return Fail(args.Env(), errno, "read");
    if (size <= 0) break;
    for (size_t i = 0; i < static_cast<size_t>(size) / sizeof signals[0]; i++) {
      SetElement(args.Env(), list, count++, MakeNumber(args.Env(), signals[i].ssi_signo));
    }
  }
  return Napi::Value(args.Env(), list);
}

}  // namespace yavm
