// The bytecode compiler, a program of the build machine: the only place where QuickJS's parser is linked.
//
//   bytecode IN.js OUT.bin NAME
//
// NAME is the file name that stacks show. Source text is not kept; function names and line numbers are, because a
// stack is all that a failed PID 1 leaves behind (build/guest.ts has the figures).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quickjs.h"

static char* read_file(const char* path, size_t* length) {
  FILE* file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
  const long size = ftell(file);
  char* text = size < 0 ? NULL : malloc((size_t)size + 1);
  rewind(file);
  if (text == NULL || fread(text, 1, (size_t)size, file) != (size_t)size) return NULL;
  fclose(file);
  text[size] = '\0';  // JS_Eval asks for it.
  *length = (size_t)size;
  return text;
}

static int write_file(const char* path, const uint8_t* bytes, size_t length) {
  FILE* file = fopen(path, "wb");
  if (file == NULL) return -1;
  const size_t written = fwrite(bytes, 1, length, file);
  return fclose(file) == 0 && written == length ? 0 : -1;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s IN.js OUT.bin NAME\n", argv[0]);
    return 2;
  }
  size_t length;
  char* text = read_file(argv[1], &length);
  if (text == NULL) {
    fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
    return 1;
  }
  JSRuntime* runtime = JS_NewRuntime();
  JS_SetStripInfo(runtime, getenv("YAVM_STRIP_DEBUG") ? JS_STRIP_DEBUG : JS_STRIP_SOURCE);
  JSContext* ctx = JS_NewContext(runtime);
  const JSValue script = JS_Eval(ctx, text, length, argv[3], JS_EVAL_TYPE_GLOBAL | JS_EVAL_FLAG_COMPILE_ONLY);
  if (JS_IsException(script)) {
    const JSValue error = JS_GetException(ctx);
    const JSValue stack = JS_GetPropertyStr(ctx, error, "stack");
    fprintf(stderr, "%s\n%s", JS_ToCString(ctx, error), JS_ToCString(ctx, stack));
    return 1;
  }
  size_t size;
  uint8_t* bytecode = JS_WriteObject(ctx, &size, script, JS_WRITE_OBJ_BYTECODE);
  if (bytecode == NULL || write_file(argv[2], bytecode, size) < 0) {
    fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
    return 1;
  }
  return 0;
}
