// The engine: QuickJS, the Node-API subset that native/addon needs, and one epoll loop. `main.c` tells the story.
// One process has one runtime, one context and one thread, so all state is static, in the file that owns it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quickjs.h"

// JS_UNDEFINED as the initializer of a static variable, which QuickJS's own macro cannot be in C.
#define ENGINE_UNDEFINED {{.int32 = 0}, JS_TAG_UNDEFINED}

#define ENGINE_COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Exit codes of a program that failed; a machine's PID 1 writes them to QEMU's isa-debug-exit device, so that QEMU
// itself exits with (code << 1) | 1.
enum engine_exit {
  ENGINE_EXIT_EXCEPTION = 70,  // An uncaught exception, or a promise rejection that nobody handled.
  ENGINE_EXIT_CRASH = 71,      // A signal such as SIGSEGV, or a failed check of native code.
  ENGINE_EXIT_MEMORY = 72,     // The JS heap is exhausted.
  ENGINE_EXIT_HUNG = 73,       // One callback computed for longer than ENGINE_CALLBACK_CPU_SECONDS.
};

// heap.c ------------------------------------------------------------------------------------------------------

extern const JSMallocFunctions heap_functions;
void heap_start(void);
// Bytes of the JS heap in use.
size_t heap_in_use(void);
// True once an allocation was refused.
bool heap_exhausted(void);
void heap_lift_limit(void);

// runtime.c ---------------------------------------------------------------------------------------------------

// The context, from engine_start() on.
extern JSContext* engine_context;
// Makes the runtime and reads `bytecode` (which must stay where it is: it is executed in place).
void engine_start(const uint8_t* bytecode, size_t size);
// Evaluates the program that engine_start() read.
void engine_run(void);
// To be called when native code has finished calling into JS from the loop: runs the microtasks, then reports what
// went wrong. Does not return if something did.
void engine_settle(void);
// Starts the CPU budget of one callback (see ENGINE_CALLBACK_CPU_SECONDS).
void engine_begin_callback(void);
// Changes that budget, of the callback that runs too: a child that does one thing and ends takes what it takes, and tests
// do not wait for a minute.
void engine_set_callback_budget(double seconds);
// The same, with a budget of `milliseconds` of wall clock: for the last words of a dying program.
void engine_begin_last_callback(int milliseconds);
// True when the budget was the reason of the exception at hand.
bool engine_was_interrupted(void);

// rejections.c ------------------------------------------------------------------------------------------------

// Keeps count of promises that were rejected while nobody listened.
void rejections_track(JSRuntime* runtime);
// Reports the first of them, which ends the program, if there is one.
void rejections_report(JSContext* ctx);

// describe.c --------------------------------------------------------------------------------------------------

// An error with its stack and causes, or any other value, as text for people. The caller frees it with js_free().
// NULL only when there is no memory for it.
char* describe_value(JSContext* ctx, JSValueConst value);

// globals.c ---------------------------------------------------------------------------------------------------

// Defines console, timers, queueMicrotask, TextEncoder, TextDecoder and yavmEngine.
void globals_install(JSContext* ctx, int argc, char** argv);
// console.c, timers.c, text.c: their parts of it.
void console_install(JSContext* ctx, JSValueConst global);
void timers_install(JSContext* ctx, JSValueConst global);
void text_install(JSContext* ctx, JSValueConst global);
// Sets the function that gets (level, text) of each console call; JS_UNDEFINED restores descriptor 2.
void console_set_sink(JSContext* ctx, JSValueConst sink);

// bytes.c -----------------------------------------------------------------------------------------------------

// The bytes of an ArrayBuffer, typed array or DataView. They live as long as `owner`, which the caller frees.
// Returns false, with a TypeError thrown, for any other value.
bool bytes_get(JSContext* ctx, JSValueConst value, uint8_t** data, size_t* length, JSValue* owner);
// A Uint8Array that holds a copy of `data`.
JSValue bytes_new(JSContext* ctx, const uint8_t* data, size_t length);

// loop.c, timers.c --------------------------------------------------------------------------------------------

void loop_start(void);
// Runs callbacks until nothing can call back any more; never returns when `forever` (PID 1).
void loop_run(bool forever);
// CLOCK_MONOTONIC, nanoseconds.
int64_t loop_now(void);
// Milliseconds until the next timer is due, rounded up, 0 when one is due already, -1 without timers.
int timers_timeout(void);
// Calls back the timers that are due now.
void timers_run(void);

// node_api_env.c ----------------------------------------------------------------------------------------------

// Registers the addon's exports as globalThis.yavmNative, when an addon is linked in.
void addon_register(JSContext* ctx);
// Brackets one callback of the loop: handles that it made without a scope of their own end here.
size_t addon_enter(void);
void addon_leave(size_t mark);
// Runs what addons asked for at the end of objects that have died. Returns false when there was nothing to do.
bool addon_run_finalizers(void);
// Moves an exception that the addon left pending to the context. Returns false when there is none.
bool addon_take_exception(JSContext* ctx);
// Runs the addon's clean-up hooks.
void addon_stop(void);

// fatal.c, crash.c, power_off.c -------------------------------------------------------------------------------

// Whether a fatal error is the end of the machine (PID 1) or only of this process.
void fatal_install(bool is_machine_init);
// Reports the context's pending exception, after `what`, and ends the program.
__attribute__((noreturn)) void fatal_exception(JSContext* ctx, const char* what);
// The same for an error at hand.
__attribute__((noreturn)) void fatal_error(JSContext* ctx, const char* what, JSValueConst error);
// Reports text of native code. Safe in a signal handler.
__attribute__((noreturn)) void fatal_text(enum engine_exit code, const char* text);
// setFatalHook() and setFatalFd() of yavmEngine.
void fatal_set_hook(JSContext* ctx, JSValueConst hook);
void fatal_set_descriptor(int fd);
// Turns signals of broken native code into fatal_text(), on a stack of their own.
void crash_install(void);
// Ends the machine with a code that its host can read.
__attribute__((noreturn)) void power_off(int code);

// report.c ----------------------------------------------------------------------------------------------------

// Writes the last words to a console, or to standard error. Safe in a signal handler.
void report_console(const char* text, bool is_machine_init);
// Writes them to the log port as one frame of guest/protocol/frames.ts. Safe in a signal handler.
void report_frame(int fd, int code, const char* text);
