// The program: /init of the machine, its helper processes (the same file with --role), and the test host.
//
//   PID 1               boots: runs the bundle that is linked in, for ever
//   /init --role …      runs the same bundle as an ordinary process; it ends with yavmEngine.exit() or when idle
//   /init               says its version: proof that the file runs on this machine
//   engine-test FILE …  (only where YAVM_TEST_HOST is defined) runs a bytecode file
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

#ifndef YAVM_VERSION
#define YAVM_VERSION "0.0.0"
#endif

struct program {
  const uint8_t* bytecode;
  size_t size;
  bool is_machine_init;
  int argc;  // What yavmEngine.args shows.
  char** argv;
};

#ifdef YAVM_TEST_HOST

// Never the machine's init, not even as PID 1 of a namespace: that machine is the developer's.
static bool choose_program(int argc, char** argv, struct program* program) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s BYTECODE [ARGUMENT]…\n", argv[0]);
    exit(2);
  }
  FILE* file = fopen(argv[1], "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    perror(argv[1]);
    exit(2);
  }
  const long size = ftell(file);
  uint8_t* bytecode = malloc((size_t)size + 1);
  rewind(file);
  if (bytecode == NULL || fread(bytecode, 1, (size_t)size, file) != (size_t)size) {
    perror(argv[1]);
    exit(2);
  }
  fclose(file);
  *program = (struct program){bytecode, (size_t)size, false, argc - 1, argv + 1};
  return true;
}

#else

// bundle.S
extern const uint8_t yavm_bytecode[];
extern const uint8_t yavm_bytecode_end[];

static bool choose_program(int argc, char** argv, struct program* program) {
  const bool is_machine_init = getpid() == 1;
  const bool is_role = argc > 1 && strncmp(argv[1], "--role", strlen("--role")) == 0;
  const size_t size = (size_t)(yavm_bytecode_end - yavm_bytecode);
  *program = (struct program){yavm_bytecode, size, is_machine_init, argc, argv};
  return is_machine_init || is_role;
}

#endif

// Descriptors 0, 1 and 2 must be something, or the first files that are opened become them. The kernel opens
// /dev/console for its first process, if the initramfs has one.
static void reserve_standard_descriptors(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    if (open("/dev/null", O_RDWR) >= 0) continue;
    if (open("/", O_PATH | O_DIRECTORY) < 0) fatal_text(ENGINE_EXIT_CRASH, "no descriptor can be opened");
  }
}

int main(int argc, char** argv) {
  struct program program;
  if (!choose_program(argc, argv, &program)) {
    puts("ya-vm init " YAVM_VERSION);
    return 0;
  }
  fatal_install(program.is_machine_init);
  crash_install();
  reserve_standard_descriptors();
  signal(SIGPIPE, SIG_IGN);  // A closed pipe is an errno of write(2), not the end.

  engine_start(program.bytecode, program.size);
  loop_start();
  globals_install(engine_context, program.argc, program.argv);
  addon_register(engine_context);
  engine_run();
  loop_run(program.is_machine_init);

  addon_stop();
  return 0;
}
