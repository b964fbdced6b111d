// setTimeout, setInterval and their ends: a binary heap by due time, then by the order in which they were set.
#include <math.h>
#include <stdlib.h>

#include "engine.h"

#define NANOSECONDS_PER_MILLISECOND 1000000LL
// Longest delay, milliseconds, as in browsers and Node: 2^31 - 1. Anything outside 1 … this is taken as 1.
#define MAX_DELAY 2147483647.0
// Bound on timers that wait at once.
#define MAX_TIMERS 65536

struct timer {
  int64_t due;       // CLOCK_MONOTONIC, nanoseconds.
  int64_t interval;  // Nanoseconds; 0 for a timeout.
  uint64_t order;    // Of its insertion.
  uint32_t id;
  uint32_t position;  // In the heap.
  JSValue function;
  int argc;
  JSValue argv[];
};

static struct timer** heap;
static uint32_t heap_size;
static uint32_t heap_capacity;
static uint64_t last_order;
static uint32_t last_id;

static bool is_before(const struct timer* a, const struct timer* b) {
  if (a->due != b->due) return a->due < b->due;
  return a->order < b->order;
}

static void place(struct timer* timer, uint32_t position) {
  heap[position] = timer;
  timer->position = position;
}

static void move_up(struct timer* timer, uint32_t position) {
  while (position > 0) {
    const uint32_t parent = (position - 1) / 2;
    if (!is_before(timer, heap[parent])) break;
    place(heap[parent], position);
    position = parent;
  }
  place(timer, position);
}

static void move_down(struct timer* timer, uint32_t position) {
  for (;;) {
    uint32_t child = 2 * position + 1;
    if (child >= heap_size) break;
    if (child + 1 < heap_size && is_before(heap[child + 1], heap[child])) child++;
    if (!is_before(heap[child], timer)) break;
    place(heap[child], position);
    position = child;
  }
  place(timer, position);
}

static bool insert(struct timer* timer) {
  if (heap_size == heap_capacity) {
    const uint32_t capacity = heap_capacity == 0 ? 16 : heap_capacity * 2;
    struct timer** grown = reallocarray(heap, capacity, sizeof(*grown));
    if (grown == NULL) return false;
    heap = grown;
    heap_capacity = capacity;
  }
  timer->order = ++last_order;
  move_up(timer, heap_size++);
  return true;
}

static void take_out(struct timer* timer) {
  const uint32_t position = timer->position;
  struct timer* last = heap[--heap_size];
  if (last == timer) return;
  if (position > 0 && is_before(last, heap[(position - 1) / 2])) {
    move_up(last, position);
  } else {
    move_down(last, position);
  }
}

static void release(JSContext* ctx, struct timer* timer) {
  JS_FreeValue(ctx, timer->function);
  for (int index = 0; index < timer->argc; index++) JS_FreeValue(ctx, timer->argv[index]);
  free(timer);
}

// The timer with this id that is waiting. A linear search: agents have some tens, and clear few of them.
static struct timer* find(uint32_t id) {
  for (uint32_t index = 0; index < heap_size; index++) {
    if (heap[index]->id == id) return heap[index];
  }
  return NULL;
}

static JSValue set_timer(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv, int repeats) {
  (void)this_value;
  double delay = 1;
  if (!JS_IsFunction(ctx, argv[0])) return JS_ThrowTypeError(ctx, "a timer needs a function");
  if (argc > 1 && JS_ToFloat64(ctx, &delay, argv[1]) < 0) return JS_EXCEPTION;
  if (!(delay >= 1 && delay <= MAX_DELAY)) delay = 1;
  if (heap_size >= MAX_TIMERS) return JS_ThrowRangeError(ctx, "more than %d timers", MAX_TIMERS);
  const int extra = argc > 2 ? argc - 2 : 0;
  struct timer* timer = malloc(sizeof(*timer) + (size_t)extra * sizeof(JSValue));
  if (timer == NULL) return JS_ThrowOutOfMemory(ctx);
  const int64_t length = (int64_t)trunc(delay) * NANOSECONDS_PER_MILLISECOND;
  timer->due = loop_now() + length;
  timer->interval = repeats ? length : 0;
  timer->id = ++last_id;
  if (timer->id == 0) timer->id = ++last_id;
  timer->function = JS_DupValue(ctx, argv[0]);
  timer->argc = extra;
  for (int index = 0; index < extra; index++) timer->argv[index] = JS_DupValue(ctx, argv[index + 2]);
  if (!insert(timer)) {
    release(ctx, timer);
    return JS_ThrowOutOfMemory(ctx);
  }
  return JS_NewUint32(ctx, timer->id);
}

static JSValue clear_timer(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  double id;
  if (!JS_IsNumber(argv[0])) return JS_UNDEFINED;  // As everywhere: clearTimeout(undefined) does nothing.
  if (JS_ToFloat64(ctx, &id, argv[0]) < 0) return JS_EXCEPTION;
  if (!(id >= 1 && id <= UINT32_MAX)) return JS_UNDEFINED;
  struct timer* timer = find((uint32_t)id);
  if (timer == NULL) return JS_UNDEFINED;
  take_out(timer);
  release(ctx, timer);
  return JS_UNDEFINED;
}

int timers_timeout(void) {
  if (heap_size == 0) return -1;
  const int64_t wait = heap[0]->due - loop_now();
  if (wait <= 0) return 0;
  // Rounded up, because a wait that ends early would have to be repeated. It fits: MAX_DELAY is INT_MAX.
  return (int)((wait + NANOSECONDS_PER_MILLISECOND - 1) / NANOSECONDS_PER_MILLISECOND);
}

// Calls one back. An interval is back in the heap before its call, so that the call can clear it.
static void fire(struct timer* timer, int64_t now) {
  JSContext* ctx = engine_context;
  take_out(timer);
  JSValue function = JS_DupValue(ctx, timer->function);
  const int argc = timer->argc;
  JSValue argv[argc + 1];
  for (int index = 0; index < argc; index++) argv[index] = JS_DupValue(ctx, timer->argv[index]);
  if (timer->interval > 0) {
    timer->due = now + timer->interval;
    insert(timer);  // Cannot fail: its place has just become free.
  } else {
    release(ctx, timer);
  }
  engine_begin_callback();
  const JSValue result = JS_Call(ctx, function, JS_UNDEFINED, argc, (JSValueConst*)argv);
  if (JS_IsException(result)) fatal_exception(ctx, "uncaught exception");
  JS_FreeValue(ctx, result);
  JS_FreeValue(ctx, function);
  for (int index = 0; index < argc; index++) JS_FreeValue(ctx, argv[index]);
  engine_settle();
}

void timers_run(void) {
  if (heap_size == 0) return;
  const int64_t now = loop_now();
  while (heap_size > 0 && heap[0]->due <= now) fire(heap[0], now);
}

void timers_install(JSContext* ctx, JSValueConst global) {
  static const struct {
    const char* name;
    int repeats;
  } setters[] = {{"setTimeout", 0}, {"setInterval", 1}};
  static const char* const clearers[] = {"clearTimeout", "clearInterval"};
  const int hidden = JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE;
  for (size_t index = 0; index < ENGINE_COUNT(setters); index++) {
    const JSValue function = JS_NewCFunctionMagic(ctx, set_timer, setters[index].name, 2,
                                                  JS_CFUNC_generic_magic, setters[index].repeats);
    JS_DefinePropertyValueStr(ctx, global, setters[index].name, function, hidden);
  }
  for (size_t index = 0; index < ENGINE_COUNT(clearers); index++) {
    const JSValue function = JS_NewCFunction(ctx, clear_timer, clearers[index], 1);
    JS_DefinePropertyValueStr(ctx, global, clearers[index], function, hidden);
  }
}
