// The bytecode compiler: the only place where QuickJS's parser is linked. The build makes the agent's bytecode with it, and
// `ya-vm initramfs build --hook` that of hooks.
//
//   bytecode IN.js OUT.bin NAME [--in-place | --marked]
//
// `-` stands for standard input and standard output. NAME is the file name that stacks show. Source text is not kept; function names and line numbers are, because a
// stack is all that a failed PID 1 leaves behind. (For an agent of 693 functions they make the bytecode 187 KB instead
// of 125 KB, the compressed initramfs 25 KB larger, and the process 0.2 MB.)
//
// The result can be run in place, in read-only memory. QuickJS does so only if the names in it, numbered from 0, get
// the same numbers plus a constant when they are read into a fresh context. There one name exists already, that of the
// error class that QuickJS has no constant for; so it must be the first name of the program. That fails for a script
// that declares global variables, which come first. With --in-place the result is tried here, and refused if need be.
//
// Bytecode fits one version of QuickJS. With --marked a line comes before it that tells which, and that is in /init too.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quickjs.h"

// Refers to that name and does nothing. It stays on the first line: line numbers are those of the input.
#define PREFIX "AggregateError;"

// Most of a script, bytes (the agent has 0.3 MB), and of the memory to compile it.
#define MAX_SCRIPT (8u * 1024 * 1024)
#define MAX_MEMORY (512u * 1024 * 1024)

#define MARK YAVM_BYTECODE_MARK "\n"

static char* read_file(const char* path, size_t* length) {
  FILE* file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
  char* text = malloc(strlen(PREFIX) + MAX_SCRIPT + 1);
  if (file == NULL || text == NULL) return NULL;
  memcpy(text, PREFIX, strlen(PREFIX));
  const size_t size = fread(text + strlen(PREFIX), 1, MAX_SCRIPT, file);
  if (!ferror(file) && size == MAX_SCRIPT) errno = EFBIG;
  if (ferror(file) || size == MAX_SCRIPT) return NULL;
  *length = strlen(PREFIX) + size;
  text[*length] = '\0';  // JS_Eval asks for it.
  return text;
}

static int write_file(const char* path, const char* mark, const uint8_t* bytes, size_t length) {
  FILE* file = strcmp(path, "-") == 0 ? stdout : fopen(path, "wb");
  if (file == NULL) return -1;
  const size_t written = fwrite(mark, 1, strlen(mark), file) + fwrite(bytes, 1, length, file);
  return fclose(file) == 0 && written == strlen(mark) + length ? 0 : -1;
}

// Reads the bytecode as the engine does. Returns the bytes of it that had to be copied and patched, 0 if none.
static int64_t copied_bytes(const uint8_t* bytecode, size_t size) {
  JSMemoryUsage usage;
  JSRuntime* runtime = JS_NewRuntime();
  JSContext* ctx = JS_NewContextRaw(runtime);
  const JSValue script = JS_ReadObject(ctx, bytecode, size, JS_READ_OBJ_BYTECODE | JS_READ_OBJ_ROM_DATA);
  JS_ComputeMemoryUsage(runtime, &usage);
  JS_FreeValue(ctx, script);
  return usage.js_func_code_size;
}

int main(int argc, char** argv) {
  const int in_place = argc == 5 && strcmp(argv[4], "--in-place") == 0;
  const int marked = argc == 5 && strcmp(argv[4], "--marked") == 0;
  if (argc != 4 && !in_place && !marked) {
    fprintf(stderr, "usage: %s IN.js OUT.bin NAME [--in-place | --marked]\n", argv[0]);
    return 2;
  }
  size_t length;
  char* text = read_file(argv[1], &length);
  if (text == NULL) {
    fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
    return 1;
  }
  JSRuntime* runtime = JS_NewRuntime();
  JS_SetMemoryLimit(runtime, MAX_MEMORY);
  JS_SetStripInfo(runtime, JS_STRIP_SOURCE);
  JSContext* ctx = JS_NewContext(runtime);
  // Strict, as the modules that the script was bundled from are.
  const int flags = JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_STRICT | JS_EVAL_FLAG_COMPILE_ONLY;
  const JSValue script = JS_Eval(ctx, text, length, argv[3], flags);
  if (JS_IsException(script)) {
    const JSValue error = JS_GetException(ctx);
    const JSValue stack = JS_GetPropertyStr(ctx, error, "stack");
    fprintf(stderr, "%s\n%s", JS_ToCString(ctx, error), JS_ToCString(ctx, stack));
    return 1;
  }
  size_t size;
  uint8_t* bytecode = JS_WriteObject(ctx, &size, script, JS_WRITE_OBJ_BYTECODE);
  if (in_place && bytecode != NULL && copied_bytes(bytecode, size) > 0) {
    fprintf(stderr, "%s: its bytecode cannot be run in place; does it declare global variables?\n", argv[1]);
    return 1;
  }
  if (bytecode == NULL || write_file(argv[2], marked ? MARK : "", bytecode, size) < 0) {
    fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
    return 1;
  }
  return 0;
}
