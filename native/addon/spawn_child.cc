// The child's way from clone to execve. It shares the parent's memory, so nothing here may allocate, take a lock or
// call into libc beyond syscall(2); the raw calls also act on this one thread, where libc would try all.
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "spawn.h"
#include "sys.h"

namespace yavm {
namespace {

// Highest descriptor closed one by one where close_range(2) is missing (before Linux 5.9); the rest is O_CLOEXEC.
constexpr int kCloseByHand = 4096;
// The standard ones, and 32 and 33, which glibc uses itself: those that GNU make starts have them ignored.
constexpr int kStandardSignals = 33;
constexpr int kSignals = 64;

// struct kernel_sigaction: all zero is SIG_DFL with no flags and an empty mask. (mips is laid out otherwise, not ours.)
struct KernelAction {
  void* handler;
  unsigned long flags;
  void* restorer;
  uint64_t mask;
};

[[noreturn]] void Exit() {
  for (;;) syscall(SYS_exit_group, 127);
}

[[noreturn]] void GiveUp(SpawnPlan* plan, const char* call, const char* path = nullptr) {
  plan->error = errno;
  plan->call = call;
  plan->path = path;
  Exit();
}

void Check(SpawnPlan* plan, long result, const char* call, const char* path = nullptr) {
  if (result < 0) GiveUp(plan, call, path);
}

void WriteFile(SpawnPlan* plan, int dir, const char* path, const char* text, size_t size) {
  const long fd = syscall(SYS_openat, dir, path, O_WRONLY | O_CLOEXEC, 0);
  Check(plan, fd, "open", path);
  Check(plan, syscall(SYS_write, fd, text, size), "write", path);
  syscall(SYS_close, fd);
}

// What is written while still privileged, and through the /proc and descriptors that the new root may not have.
void JoinAndScore(SpawnPlan* plan) {
  if (plan->by_hand && plan->cgroup_fd >= 0) WriteFile(plan, plan->cgroup_fd, "cgroup.procs", "0", 1);
  if (plan->oom_score.empty()) return;
  WriteFile(plan, AT_FDCWD, "/proc/self/oom_score_adj", plan->oom_score.data(), plan->oom_score.size());
}

void CloseFrom(unsigned first, unsigned last) {
  if (first > last) return;
  if (syscall(SYS_close_range, first, last, 0) == 0 || errno != ENOSYS) return;
  for (unsigned fd = first; fd <= last && fd < kCloseByHand; fd++) syscall(SYS_close, fd);
}

// First every source moves above all targets, so that no dup2 overwrites one that is still needed.
void ArrangeFds(SpawnPlan* plan) {
  const int above = plan->kept.empty() ? 0 : plan->kept.back() + 1;
  for (SpawnFd& fd : plan->fds) {
    const long spare = syscall(SYS_fcntl, fd.parent, F_DUPFD_CLOEXEC, above);
    Check(plan, spare, "fcntl");
    fd.spare = static_cast<int>(spare);
  }
  if (plan->root_fd >= 0) {
    const long root = syscall(SYS_fcntl, plan->root_fd, F_DUPFD_CLOEXEC, above);
    Check(plan, root, "fcntl");
    plan->root_fd = static_cast<int>(root);
  }
  for (const SpawnFd& fd : plan->fds) Check(plan, syscall(SYS_dup3, fd.spare, fd.child, 0), "dup3");
}

void EnterRoot(SpawnPlan* plan) {
  if (plan->root_fd < 0) return;
  Check(plan, syscall(SYS_fchdir, plan->root_fd), "fchdir");
  Check(plan, syscall(SYS_chroot, "."), "chroot");
}

void CloseOthers(const SpawnPlan* plan) {
  unsigned next = 0;
  for (int kept : plan->kept) {
    if (static_cast<unsigned>(kept) > next) CloseFrom(next, static_cast<unsigned>(kept) - 1);
    next = static_cast<unsigned>(kept) + 1;
  }
  CloseFrom(next, ~0U);
}

void TakeTerminal(SpawnPlan* plan) {
  if (plan->new_session) Check(plan, syscall(SYS_setsid), "setsid");
  if (plan->terminal >= 0) Check(plan, syscall(SYS_ioctl, plan->terminal, TIOCSCTTY, 0), "ioctl");
}

void SetLimits(SpawnPlan* plan) {
  for (const SpawnLimit& limit : plan->limits) {
    const uint64_t values[2] = {limit.soft, limit.hard};
    Check(plan, syscall(SYS_prlimit64, 0, limit.resource, values, nullptr), "prlimit");
  }
}

void BecomeUser(SpawnPlan* plan) {
  if (plan->has_gid) {
    Check(plan, syscall(SYS_setgroups, plan->groups.size(), plan->groups.data()), "setgroups");
    Check(plan, syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid), "setresgid");
  }
  if (plan->has_uid) Check(plan, syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid), "setresuid");
  if (plan->no_new_privileges) Check(plan, syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl");
}

// After the uid change, which clears the setting. A parent that ended before it was made will send no signal; it shows
// as another parent (0: the parent is in an outer pid namespace).
void DieWithParent(SpawnPlan* plan) {
  if (plan->death_signal == 0) return;
  Check(plan, syscall(SYS_prctl, PR_SET_PDEATHSIG, plan->death_signal, 0, 0, 0), "prctl");
  const long parent = syscall(SYS_getppid);
  if (parent != 0 && parent != plan->parent) Exit();
}

// Handlers are gone by CLONE_CLEAR_SIGHAND already, but what the parent ignores (SIGPIPE) the child would ignore too.
// The other real-time signals are reset only by hand: nobody ignores them.
void ResetSignals(SpawnPlan* plan) {
  const KernelAction standard = {};
  const int last = plan->by_hand ? kSignals : kStandardSignals;
  for (int signal = 1; signal <= last; signal++) {
    if (signal == SIGKILL || signal == SIGSTOP) continue;
    syscall(SYS_rt_sigaction, signal, &standard, nullptr, kKernelSignalSet);
  }
  const uint64_t none = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, kKernelSignalSet);
}

// Whether nothing of that name is there. Asked before execve, which copies all arguments and the environment before it
// looks at the file: with six folders in PATH that was a quarter of a command's start.
bool IsMissing(const char* file) {
  return syscall(SYS_faccessat, AT_FDCWD, file, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

// execvp(3)'s rules: a missing file goes on to the next candidate, a forbidden one is remembered, others are final.
[[noreturn]] void Execute(SpawnPlan* plan) {
  int error = ENOENT;
  const char* path = plan->files[0];
  bool forbidden = false;
  for (const char* file : plan->files) {
    if (!file) break;
    if (!IsMissing(file)) syscall(SYS_execve, file, plan->argv.data(), plan->env.data());
    if (errno == EACCES) {
      if (!forbidden) path = file;
      forbidden = true;
    } else if (errno != ENOENT && errno != ENOTDIR) {
      GiveUp(plan, "execve", file);
    } else if (!forbidden) {
      error = errno;
      path = file;
    }
  }
  errno = forbidden ? EACCES : error;
  GiveUp(plan, "execve", path);
}

}  // namespace

int RunSpawnChild(void* argument) {
  SpawnPlan* plan = static_cast<SpawnPlan*>(argument);
  JoinAndScore(plan);
  ArrangeFds(plan);
  EnterRoot(plan);
  CloseOthers(plan);
  TakeTerminal(plan);
  if (plan->umask >= 0) syscall(SYS_umask, plan->umask);
  SetLimits(plan);
  BecomeUser(plan);
  DieWithParent(plan);
  Check(plan, syscall(SYS_chdir, plan->cwd.c_str()), "chdir", plan->cwd.c_str());
  ResetSignals(plan);
  Execute(plan);
}

}  // namespace yavm
