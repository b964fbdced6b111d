// The clone itself: clone3(2) with CLONE_VFORK, so that no status pipe is needed and no page table is copied, or
// clone(2) where clone3 is missing or forbidden.
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "spawn.h"
#include "sys.h"

namespace yavm {
namespace {

constexpr size_t kGuard = 4096;
constexpr size_t kStack = 32 * 1024;
// sizeof(struct clone_args) before `cgroup` was added (5.7): older kernels refuse a bigger one.
constexpr size_t kCloneArgsWithoutCgroup = 80;

// Calls clone3 and, in the child, fn(argument) on the new stack. libc offers no such wrapper, and its syscall(2) cannot
// return on another stack. fn must not return.
long Clone3(CloneArgs* args, size_t size, int (*fn)(void*), void* argument) {
#if defined(__x86_64__)
  long result = SYS_clone3;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %[argument], %%rdi\n\t"
      "call *%[fn]\n\t"
      "ud2\n"
      "1:"
      : "+a"(result)
      : "D"(args), "S"(size), [fn] "r"(fn), [argument] "r"(argument)
      : "rcx", "r11", "memory", "cc");
  return result;
#elif defined(__aarch64__)
  register long number asm("x8") = SYS_clone3;
  register long result asm("x0") = reinterpret_cast<long>(args);
  register size_t length asm("x1") = size;
  asm volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x0, %[argument]\n\t"
      "blr %[fn]\n\t"
      "brk #0\n"
      "1:"
      : "+r"(result)
      : "r"(number), "r"(length), [fn] "r"(fn), [argument] "r"(argument)
      : "memory", "cc");
  return result;
#else
  (void)args, (void)size, (void)fn, (void)argument;
  return -ENOSYS;
#endif
}

struct Stack {
  uint8_t* base;
  Stack() {
    void* memory = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    base = memory == MAP_FAILED ? nullptr : static_cast<uint8_t*>(memory);
    if (base) mprotect(base, kGuard, PROT_NONE);
  }
  ~Stack() {
    if (base) munmap(base, kGuard + kStack);
  }
};

// No handler of the parent may run in the child on the parent's memory; raw, because libc keeps two signals to itself.
struct AllSignalsBlocked {
  uint64_t before = 0;
  AllSignalsBlocked() {
    const uint64_t all = ~uint64_t{0};
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, kKernelSignalSet);
  }
  ~AllSignalsBlocked() { syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, kKernelSignalSet); }
};

int CloneModern(SpawnPlan* plan, const Stack& stack, pid_t* pid, int* pidfd) {
  CloneArgs args = {};
  args.flags = kCloneVm | kCloneVfork | kClonePidfd | kCloneClearSighand;
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<uint64_t>(stack.base + kGuard);
  args.stack_size = kStack;
  if (plan->cgroup_fd >= 0) {
    args.flags |= kCloneIntoCgroup;
    args.cgroup = static_cast<uint64_t>(plan->cgroup_fd);
  }
  const size_t size = plan->cgroup_fd >= 0 ? sizeof args : kCloneArgsWithoutCgroup;
  const long result = Clone3(&args, size, RunSpawnChild, plan);
  if (result < 0) return static_cast<int>(-result);
  *pid = static_cast<pid_t>(result);
  return 0;
}

int CloneLegacy(SpawnPlan* plan, const Stack& stack, pid_t* pid, int* pidfd, const char** call) {
  plan->by_hand = true;
  *call = "clone";
  *pid = clone(RunSpawnChild, stack.base + kGuard + kStack, CLONE_VM | CLONE_VFORK | SIGCHLD, plan);
  if (*pid < 0) return errno;
  // Nobody else reaps it, so the number still means this child, dead or alive.
  *pidfd = static_cast<int>(syscall(SYS_pidfd_open, *pid, 0));
  if (*pidfd >= 0) return 0;
  const int error = errno;
  *call = "pidfd_open";
  kill(*pid, SIGKILL);
  waitpid(*pid, nullptr, 0);
  return error;
}

// Answers of kernels without clone3 or one of its flags, and of seccomp filters that forbid it.
bool ClonesOnlyTheOldWay(int error) {
  return error == ENOSYS || error == EPERM || error == EINVAL || error == E2BIG;
}

}  // namespace

int CloneSpawnChild(SpawnPlan* plan, pid_t* pid, int* pidfd, const char** call) {
  Stack stack;
  *call = "mmap";
  if (!stack.base) return ENOMEM;
  plan->parent = static_cast<pid_t>(syscall(SYS_getpid));
  AllSignalsBlocked blocked;
  *call = "clone3";
  const int error = plan->legacy_clone ? ENOSYS : CloneModern(plan, stack, pid, pidfd);
  if (error == 0 || !ClonesOnlyTheOldWay(error)) return error;
  return CloneLegacy(plan, stack, pid, pidfd, call);
}

}  // namespace yavm
