// The end of the machine, with a code that its host can read.
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <sys/io.h>
#endif

#include "engine.h"

// QEMU's isa-debug-exit device as host/runtime places it: a byte written here ends QEMU with (byte << 1) | 1.
#define DEBUG_EXIT_PORT 0xf4
// QEMU takes what was written to a port or a serial line in another thread than the one that ends it here.
#define HOST_NANOSECONDS 20000000

static void debug_exit(int code) {
#if defined(__x86_64__) || defined(__i386__)
  if (ioperm(DEBUG_EXIT_PORT, 1, 1) == 0) outb((unsigned char)code, DEBUG_EXIT_PORT);
#else
  (void)code;
#endif
}

_Noreturn void power_off(int code) {
  const struct timespec pause = {0, HOST_NANOSECONDS};
  nanosleep(&pause, NULL);
  debug_exit(code);
  // Still here: no such device. The code is lost, the file systems need not be.
  sync();
  reboot(RB_POWER_OFF);
  for (;;) sleep(3600);  // A machine that cannot switch itself off. PID 1 must not end: the kernel would panic.
}
