// console: each call becomes one (level, text) for the agent's sink, or a line on descriptor 2 before there is one.
#include <string.h>
#include <unistd.h>

#include "engine.h"

static const char* const levels[] = {"debug", "info", "info", "warn", "error"};
static const char* const names[] = {"debug", "info", "log", "warn", "error"};

static JSValue sink = ENGINE_UNDEFINED;
// True while the sink runs: what it prints itself goes to descriptor 2.
static bool in_sink;

void console_set_sink(JSContext* ctx, JSValueConst value) {
  JS_FreeValue(ctx, sink);
  sink = JS_DupValue(ctx, value);
}

static void write_all(int fd, const char* bytes, size_t length) {
  while (length > 0) {
    const ssize_t written = write(fd, bytes, length);
    if (written <= 0) return;  // A console that takes no more is no reason to fail.
    bytes += written;
    length -= (size_t)written;
  }
}

// The arguments, described and joined by spaces. NULL when memory ran out.
static char* join_arguments(JSContext* ctx, int argc, JSValueConst* argv) {
  char* line = js_mallocz(ctx, 1);
  size_t length = 0;
  for (int index = 0; index < argc && line != NULL; index++) {
    char* part = describe_value(ctx, argv[index]);
    const size_t size = part == NULL ? 0 : strlen(part);
    char* grown = js_realloc(ctx, line, length + size + 2);
    if (grown == NULL || part == NULL) {
      js_free(ctx, grown == NULL ? line : grown);
      js_free(ctx, part);
      return NULL;
    }
    line = grown;
    if (index > 0) line[length++] = ' ';
    memcpy(line + length, part, size + 1);
    length += size;
    js_free(ctx, part);
  }
  return line;
}

static JSValue give_to_sink(JSContext* ctx, const char* level, const char* line) {
  JSValue arguments[] = {JS_NewString(ctx, level), JS_NewString(ctx, line)};
  in_sink = true;
  const JSValue result = JS_Call(ctx, sink, JS_UNDEFINED, ENGINE_COUNT(arguments), (JSValueConst*)arguments);
  in_sink = false;
  for (size_t index = 0; index < ENGINE_COUNT(arguments); index++) JS_FreeValue(ctx, arguments[index]);
  return result;
}

// A failing sink loses its line to descriptor 2 but never fails the caller, who only wanted to say something.
static JSValue console_call(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv, int index) {
  (void)this_value;
  char* line = join_arguments(ctx, argc, argv);
  if (line == NULL) return JS_ThrowOutOfMemory(ctx);
  bool taken = false;
  if (!JS_IsUndefined(sink) && !in_sink) {
    const JSValue result = give_to_sink(ctx, levels[index], line);
    taken = !JS_IsException(result);
    if (!taken) JS_FreeValue(ctx, JS_GetException(ctx));
    JS_FreeValue(ctx, result);
  }
  if (!taken) {
    const size_t length = strlen(line);
    line[length] = '\n';  // One write for the line, so that lines of several processes do not mix.
    write_all(STDERR_FILENO, line, length + 1);
  }
  js_free(ctx, line);
  return JS_UNDEFINED;
}

void console_install(JSContext* ctx, JSValueConst global) {
  const JSValue console = JS_NewObject(ctx);
  for (size_t index = 0; index < ENGINE_COUNT(names); index++) {
    const JSValue function =
        JS_NewCFunctionMagic(ctx, console_call, names[index], 0, JS_CFUNC_generic_magic, (int)index);
    JS_DefinePropertyValueStr(ctx, console, names[index], function, JS_PROP_C_W_E);
  }
  JS_DefinePropertyValueStr(ctx, global, "console", console, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
}
