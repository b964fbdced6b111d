// The JS runtime: its limits, its built-in objects, the program, and what happens after each callback.
#include <time.h>

#include "engine.h"

// Reference counting frees nearly everything at once: only cycles and weak references wait for a full collection. While
// the program is being loaded (0.8 MB for the agent) nothing dies: the first one runs when the heap has this size, or
// has grown by that much since the end of the script. QuickJS sets the next ones to 1.5 × what survived.
#define GC_AT_START (2 * 1024 * 1024)
#define GC_GROWTH (256 * 1024)
// Bound of the C stack that JS may use, bytes: some 1,500 nested JS calls. The kernel gives the thread 8 MiB.
#define STACK_LIMIT (512 * 1024)
// A callback, with its microtasks, that computes this long is an endless loop. CPU time, because a machine may be
// suspended and emulated ones are slow.
#define ENGINE_CALLBACK_CPU_SECONDS 60

JSContext* engine_context;

static JSValue program = ENGINE_UNDEFINED;

static int64_t callback_nanoseconds = ENGINE_CALLBACK_CPU_SECONDS * 1000000000LL;

static struct {
  clockid_t clock;
  int64_t deadline;  // Nanoseconds of `clock`; 0 until the first check of a callback.
  int64_t length;
  bool expired;
} budget;

static int64_t nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void engine_begin_callback(void) {
  budget.clock = CLOCK_PROCESS_CPUTIME_ID;
  budget.length = callback_nanoseconds;
  budget.deadline = 0;
  budget.expired = false;
}

void engine_set_callback_budget(double seconds) {
  callback_nanoseconds = (int64_t)(seconds * 1e9);
  engine_begin_callback();
}

void engine_begin_last_callback(int milliseconds) {
  budget.clock = CLOCK_MONOTONIC;
  budget.length = milliseconds * 1000000LL;
  budget.deadline = nanoseconds(budget.clock) + budget.length;
  budget.expired = false;
}

bool engine_was_interrupted(void) { return budget.expired; }

// QuickJS asks every 10,000 branches. The budget of a callback starts with the first question, so that short
// callbacks never pay for a look at the clock.
static int check_budget(JSRuntime* runtime, void* unused) {
  (void)runtime, (void)unused;
  const int64_t now = nanoseconds(budget.clock);
  if (budget.deadline == 0) budget.deadline = now + budget.length;
  budget.expired = now > budget.deadline;
  return budget.expired;
}

// Everything but eval, that is the parser: the linker drops it.
static void add_intrinsics(JSContext* ctx) {
  JS_AddIntrinsicBaseObjects(ctx);
  JS_AddIntrinsicDate(ctx);
  JS_AddIntrinsicRegExp(ctx);
  JS_AddIntrinsicJSON(ctx);
  JS_AddIntrinsicProxy(ctx);
  JS_AddIntrinsicMapSet(ctx);
  JS_AddIntrinsicTypedArrays(ctx);
  JS_AddIntrinsicPromise(ctx);
  JS_AddIntrinsicWeakRef(ctx);
}

void engine_start(const uint8_t* bytecode, size_t size) {
  heap_start();
  JSRuntime* runtime = JS_NewRuntime2(&heap_functions, NULL);
  engine_context = runtime == NULL ? NULL : JS_NewContextRaw(runtime);
  if (engine_context == NULL) fatal_text(ENGINE_EXIT_MEMORY, "no memory for the JavaScript runtime");
  JS_SetGCThreshold(runtime, GC_AT_START);
  JS_SetMaxStackSize(runtime, STACK_LIMIT);
  JS_SetInterruptHandler(runtime, check_budget, NULL);
  rejections_track(runtime);
  engine_begin_callback();
  // Before any other atom exists, so that the program's atoms get the numbers that the compiler gave them: only then
  // does QuickJS run the bytecode where it lies, in read-only pages, instead of in a patched copy on the heap.
  program = JS_ReadObject(engine_context, bytecode, size, JS_READ_OBJ_BYTECODE | JS_READ_OBJ_ROM_DATA);
  const bool unreadable = JS_IsException(program);
  add_intrinsics(engine_context);
  if (unreadable) fatal_exception(engine_context, "the program is no bytecode of this engine");
}

void engine_run(void) {
  engine_begin_callback();
  const JSValue result = JS_EvalFunction(engine_context, program);  // Takes `program` over.
  program = JS_UNDEFINED;
  if (JS_IsException(result)) fatal_exception(engine_context, "uncaught exception");
  JS_FreeValue(engine_context, result);
  JS_SetGCThreshold(JS_GetRuntime(engine_context), heap_in_use() + GC_GROWTH);
  engine_settle();
}

void engine_settle(void) {
  JSRuntime* runtime = JS_GetRuntime(engine_context);
  do {
    if (addon_take_exception(engine_context)) fatal_exception(engine_context, "uncaught exception");
    while (JS_IsJobPending(runtime)) {
      JSContext* where;
      if (JS_ExecutePendingJob(runtime, &where) < 0) fatal_exception(where, "uncaught exception");
    }
    rejections_report(engine_context);
  } while (addon_run_finalizers());
}
