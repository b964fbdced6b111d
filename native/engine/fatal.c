// The end of a program that failed: say why, with the stack, wherever somebody may read it, then end with a code.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

// What the agent's hook may take, milliseconds: the machine is useless by now and its host is waiting.
#define HOOK_MILLISECONDS 200
// Longest report, bytes; the rest of a longer stack is cut off.
#define MAX_REPORT 8192

static bool is_machine_init;
static JSValue hook = ENGINE_UNDEFINED;
static int log_fd = -1;
// How many errors ended this program. The second one, in the hook, and any later one skip what failed.
static volatile int attempts;

void fatal_install(bool machine_init) { is_machine_init = machine_init; }

void fatal_set_hook(JSContext* ctx, JSValueConst value) {
  JS_FreeValue(ctx, hook);
  hook = JS_DupValue(ctx, value);
}

void fatal_set_descriptor(int fd) { log_fd = fd; }

static _Noreturn void end(int code) {
  if (is_machine_init) power_off(code);
  _exit(code);
}

// Gives the report to the agent's hook as (text, code). True when it says that the log port has it.
static bool give_to_hook(JSContext* ctx, const char* text, int code) {
  if (JS_IsUndefined(hook)) return false;
  JSValue arguments[] = {JS_NewString(ctx, text), JS_NewInt32(ctx, code)};
  engine_begin_last_callback(HOOK_MILLISECONDS);
  const JSValue result = JS_Call(ctx, hook, JS_UNDEFINED, ENGINE_COUNT(arguments), (JSValueConst*)arguments);
  return !JS_IsException(result) && JS_ToBool(ctx, result) > 0;
}

_Noreturn void fatal_text(enum engine_exit code, const char* text) {
  attempts++;
  if (attempts <= 2) {
    report_console(text, is_machine_init);
    report_frame(log_fd, code, text);
  }
  end(code);
}

static enum engine_exit code_of(JSContext* ctx, JSValueConst error) {
  if (engine_was_interrupted()) return ENGINE_EXIT_HUNG;
  if (!heap_exhausted()) return ENGINE_EXIT_EXCEPTION;
  // QuickJS throws this error; or null, or nothing at all, when there was no memory even for it.
  bool is_memory = JS_IsNull(error) || JS_IsUninitialized(error);
  if (JS_IsError(ctx, error)) {
    const JSValue message = JS_GetPropertyStr(ctx, error, "message");
    const char* text = JS_ToCString(ctx, message);
    is_memory = text != NULL && strcmp(text, "out of memory") == 0;
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, message);
  }
  return is_memory ? ENGINE_EXIT_MEMORY : ENGINE_EXIT_EXCEPTION;
}

_Noreturn void fatal_error(JSContext* ctx, const char* what, JSValueConst error) {
  static char report[MAX_REPORT];
  const enum engine_exit code = code_of(ctx, error);
  if (attempts++ > 0) fatal_text(code, "another error while the first was being reported");
  heap_lift_limit();
  engine_begin_last_callback(HOOK_MILLISECONDS);  // Describing the error can run its getters.
  const bool is_nothing = JS_IsNull(error) || JS_IsUninitialized(error);
  char* description = code == ENGINE_EXIT_MEMORY && is_nothing ? NULL : describe_value(ctx, error);
  const char* reason = code == ENGINE_EXIT_HUNG ? " (it computed for too long)" : "";
  snprintf(report, sizeof(report), "%s%s: %s", what, reason, description == NULL ? "out of memory" : description);
  report_console(report, is_machine_init);
  if (!give_to_hook(ctx, report, code)) report_frame(log_fd, code, report);
  end(code);
}

_Noreturn void fatal_exception(JSContext* ctx, const char* what) {
  fatal_error(ctx, what, JS_GetException(ctx));
}
