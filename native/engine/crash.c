// Signals that mean broken native code become a report and an exit code, instead of a kernel panic without a reason.
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "engine.h"

// The handler's own stack, because the signal may say that the other one is full. Pages are used only when it comes.
#define STACK_SIZE 32768
// An access this near the stack pointer, bytes, is taken for a stack that is full.
#define STACK_DISTANCE 65536

static const struct {
  int number;
  const char* name;
} signals[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGILL, "SIGILL"},
    {SIGFPE, "SIGFPE"},   {SIGABRT, "SIGABRT"}, {SIGSYS, "SIGSYS"},
};

static const char* name_of(int number) {
  for (size_t index = 0; index < ENGINE_COUNT(signals); index++) {
    if (signals[index].number == number) return signals[index].name;
  }
  return "signal";
}

static char* append(char* end, const char* text) {
  const size_t length = strlen(text);
  memcpy(end, text, length + 1);
  return end + length;
}

static char* append_number(char* end, uintptr_t number, unsigned base) {
  char digits[2 + 20];
  size_t start = sizeof(digits);
  do {
    digits[--start] = "0123456789abcdef"[number % base];
    number /= base;
  } while (number > 0);
  if (base == 16) {
    digits[--start] = 'x';
    digits[--start] = '0';
  }
  memcpy(end, digits + start, sizeof(digits) - start);
  end += sizeof(digits) - start;
  *end = '\0';
  return end;
}

static bool is_stack_overflow(uintptr_t address, uintptr_t stack_pointer) {
  const uintptr_t distance = address > stack_pointer ? address - stack_pointer : stack_pointer - address;
  return stack_pointer != 0 && distance < STACK_DISTANCE;
}

static void handle(int number, siginfo_t* info, void* context) {
  char text[256];
  char* end = append(text, "crash: ");
  end = append(end, name_of(number));
  uintptr_t instruction = 0;
  uintptr_t stack_pointer = 0;
#if defined(__x86_64__)
  const ucontext_t* where = context;
  instruction = (uintptr_t)where->uc_mcontext.gregs[REG_RIP];
  stack_pointer = (uintptr_t)where->uc_mcontext.gregs[REG_RSP];
#else
  (void)context;
#endif
  if (info->si_code <= 0) {
    end = append(end, " sent by process ");
    end = append_number(end, (uintptr_t)info->si_pid, 10);
  } else if (number == SIGSEGV || number == SIGBUS) {
    const uintptr_t address = (uintptr_t)info->si_addr;
    end = append(end, " at address ");
    end = append_number(end, address, 16);
    if (is_stack_overflow(address, stack_pointer)) end = append(end, " (stack overflow)");
  }
  if (instruction != 0) {
    end = append(end, ", instruction ");
    end = append_number(end, instruction, 16);
  }
  fatal_text(ENGINE_EXIT_CRASH, text);
}

void crash_install(void) {
  static char stack[STACK_SIZE] __attribute__((aligned(16)));
  const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_sigaction = handle};
  // Reset and not blocked: a crash inside the handler ends the process (or panics the kernel) rather than loop.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND | SA_NODEFER;
  for (size_t index = 0; index < ENGINE_COUNT(signals); index++) sigaction(signals[index].number, &action, NULL);
}
