// Kernel interfaces that musl 1.2.3 or glibc 2.28 have no declaration for, as the kernel's own headers define them.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

// Numbers from 424 on are the same on every architecture.
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif

namespace yavm {

// struct open_how and RESOLVE_* of linux/openat2.h.
struct OpenHow {
  uint64_t flags;
  uint64_t mode;
  uint64_t resolve;
};
constexpr uint64_t kResolveNoMagicLinks = 0x02;
constexpr uint64_t kResolveInRoot = 0x10;

// struct clone_args of linux/sched.h (version 2, with cgroup).
struct CloneArgs {
  uint64_t flags;
  uint64_t pidfd;
  uint64_t child_tid;
  uint64_t parent_tid;
  uint64_t exit_signal;
  uint64_t stack;
  uint64_t stack_size;
  uint64_t tls;
  uint64_t set_tid;
  uint64_t set_tid_size;
  uint64_t cgroup;
};
constexpr uint64_t kCloneVm = 0x00000100;
constexpr uint64_t kClonePidfd = 0x00001000;
constexpr uint64_t kCloneVfork = 0x00004000;
constexpr uint64_t kCloneClearSighand = 0x100000000;
constexpr uint64_t kCloneIntoCgroup = 0x200000000;

// Bytes of a signal set as the kernel takes it (64 signals).
constexpr size_t kKernelSignalSet = 8;

// Restarts a call that a signal interrupted.
template <typename Call>
auto Retry(Call call) -> decltype(call()) {
  decltype(call()) result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

}  // namespace yavm
