// Children and this process: reaping, signals, identity, settings.
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

double Microseconds(const struct timeval& time) { return time.tv_sec * 1e6 + time.tv_usec; }

napi_value ExitObject(napi_env env, pid_t pid, int status, const struct rusage& usage) {
  napi_value object = MakeObject(env);
  SetNumber(env, object, "pid", pid);
  if (WIFEXITED(status)) {
    SetNumber(env, object, "code", WEXITSTATUS(status));
  } else {
    SetNumber(env, object, "signal", WTERMSIG(status));
    SetFlag(env, object, "core", WCOREDUMP(status));
  }
  SetNumber(env, object, "userMicroseconds", Microseconds(usage.ru_utime));
  SetNumber(env, object, "systemMicroseconds", Microseconds(usage.ru_stime));
  return object;
}

// Ends handed over by one call.
constexpr int64_t kMaxReaped = 4096;

// The options whose argument is a plain number. With any other the number would be an address of our own memory.
constexpr int kPrctlOptions[] = {
    PR_SET_PDEATHSIG,   PR_GET_DUMPABLE,        PR_SET_DUMPABLE,       PR_GET_KEEPCAPS,     PR_SET_KEEPCAPS,
    PR_CAPBSET_READ,    PR_CAPBSET_DROP,        PR_GET_SECUREBITS,     PR_SET_SECUREBITS,   PR_SET_TIMERSLACK,
    PR_GET_TIMERSLACK,  PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS,   PR_GET_NO_NEW_PRIVS, PR_SET_PTRACER,
    PR_SET_THP_DISABLE, PR_GET_THP_DISABLE,
};

bool TakesNumber(int option) {
  for (int known : kPrctlOptions) {
    if (known == option) return true;
  }
  return false;
}

}  // namespace

Napi::Value WaitPid(const Napi::CallbackInfo& info) {
  Args args(info, "waitPid");
  const pid_t pid = static_cast<pid_t>(args.Integer(0, "pid", 1, INT32_MAX));
  if (!args.Ok()) return Nothing();
  int status = 0;
  struct rusage usage;
  const pid_t ended = Retry([&] { return wait4(pid, &status, WNOHANG, &usage); });
  if (ended < 0) return Fail(args.Env(), errno, "wait4");
  napi_value result = ended == 0 ? MakeNull(args.Env()) : ExitObject(args.Env(), ended, status, usage);
  return Napi::Value(args.Env(), result);
}

Napi::Value Reap(const Napi::CallbackInfo& info) {
  Args args(info, "reap");
  const uint32_t most = static_cast<uint32_t>(args.Integer(0, "most", 1, kMaxReaped));
  if (!args.Ok()) return Nothing();
  napi_env env = args.Env();
  napi_value list = MakeArray(env, 0);
  for (uint32_t count = 0; count < most; count++) {
    int status = 0;
    struct rusage usage;
    const pid_t ended = Retry([&] { return wait4(-1, &status, WNOHANG, &usage); });
    if (ended < 0 && errno != ECHILD) return Fail(env, errno, "wait4");
    if (ended <= 0) break;
    SetElement(env, list, count, ExitObject(env, ended, status, usage));
  }
  return Napi::Value(env, list);
}

Napi::Value Kill(const Napi::CallbackInfo& info) {
  Args args(info, "kill");
  // Negative: a process group; -1: everything that may be signalled, PID 1's last word.
  const pid_t pid = static_cast<pid_t>(args.Integer(0, "pid", -INT32_MAX, INT32_MAX));
  const int signal = static_cast<int>(args.Integer(1, "signal", 0, 64));
  if (!args.Ok()) return Nothing();
  if (kill(pid, signal) < 0) return Fail(args.Env(), errno, "kill");
  return Nothing();
}

Napi::Value KillPidfd(const Napi::CallbackInfo& info) {
  Args args(info, "killPidfd");
  const int pidfd = args.Fd(0, "pidfd");
  const int signal = static_cast<int>(args.Integer(1, "signal", 0, 64));
  if (!args.Ok()) return Nothing();
  if (syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) < 0) {
    return Fail(args.Env(), errno, "pidfd_send_signal");
  }
  return Nothing();
}

Napi::Value GetPid(const Napi::CallbackInfo& info) { return Number(info.Env(), getpid()); }
Napi::Value GetParentPid(const Napi::CallbackInfo& info) { return Number(info.Env(), getppid()); }
Napi::Value GetUid(const Napi::CallbackInfo& info) { return Number(info.Env(), getuid()); }

Napi::Value Prctl(const Napi::CallbackInfo& info) {
  Args args(info, "prctl");
  const int option = static_cast<int>(args.Integer(0, "option", 0, INT32_MAX));
  const unsigned long argument = static_cast<unsigned long>(args.Integer(1, "argument", 0, kMaxSafeInteger));
  if (!args.Ok()) return Nothing();
  if (!TakesNumber(option)) return Fail(args.Env(), EINVAL, "prctl");
  const int result = prctl(option, argument, 0, 0, 0);
  if (result < 0) return Fail(args.Env(), errno, "prctl");
  return Number(args.Env(), result);
}

Napi::Value Unshare(const Napi::CallbackInfo& info) {
  Args args(info, "unshare");
  const int flags = static_cast<int>(args.Integer(0, "flags", 0, INT32_MAX));
  if (!args.Ok()) return Nothing();
  if (unshare(flags) < 0) return Fail(args.Env(), errno, "unshare");
  return Nothing();
}

}  // namespace yavm
