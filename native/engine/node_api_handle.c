// Handles: slots that hold a value each, on a stack that is cut back when a scope closes. The stack is a chain of
// chunks, so a slot never moves while it is in use.
#include <stdlib.h>

#include "node_api.h"

// Slots in a chunk: with its header it fills 2 KiB.
#define CHUNK_SLOTS 126

struct chunk {
  struct chunk* previous;
  struct chunk* next;  // An empty one that is kept, or NULL.
  size_t first;        // Number of its first slot, counted from the bottom of the stack.
  JSValue slots[CHUNK_SLOTS];
};

static struct chunk* top;
// Slots in use.
static size_t count;

size_t handle_mark(void) { return count; }

// Steps into the chunk after `top`.
static bool grow(void) {
  struct chunk* next = top == NULL ? NULL : top->next;
  if (next == NULL) {
    next = malloc(sizeof(*next));
    if (next == NULL) return false;
    next->previous = top;
    next->next = NULL;
    next->first = count;
    if (top != NULL) top->next = next;
  }
  top = next;
  return true;
}

napi_value handle_new(JSValue value) {
  if (top == NULL || count - top->first == CHUNK_SLOTS) {
    if (!grow()) {
      JS_FreeValue(addon_env.ctx, value);
      return NULL;
    }
  }
  JSValue* slot = &top->slots[count++ - top->first];
  *slot = value;
  return (napi_value)slot;
}

// Steps back from an empty chunk. One empty chunk stays at the end of the chain, so that a scope that opens and
// closes at a border does not allocate each time.
static void shrink(void) {
  free(top->next);
  top->next = NULL;
  top = top->previous;
}

void handle_release(JSContext* ctx, size_t mark) {
  while (count > mark) {
    if (count == top->first) shrink();
    const JSValue value = top->slots[--count - top->first];
    JS_FreeValue(ctx, value);
  }
}

// The slot with this number, which must be in use.
static JSValue* slot_at(size_t number) {
  struct chunk* chunk = top;
  while (number < chunk->first) chunk = chunk->previous;
  return &chunk->slots[number - chunk->first];
}

// A scope is the place where the stack stood, plus one because NULL is no scope.
static bool scope_mark(const void* scope, size_t* mark) {
  *mark = (size_t)(uintptr_t)scope - 1;
  return scope != NULL && *mark <= count;
}

napi_status napi_open_handle_scope(napi_env env, napi_handle_scope* result) {
  REQUIRE(env, result);
  *result = (napi_handle_scope)(uintptr_t)(count + 1);
  return env_status(env, napi_ok);
}

napi_status napi_close_handle_scope(napi_env env, napi_handle_scope scope) {
  size_t mark;
  EXPECT(env, scope_mark(scope, &mark), napi_handle_scope_mismatch);
  handle_release(env->ctx, mark);
  return env_status(env, napi_ok);
}

// The slot below an escapable scope belongs to the scope around it and waits for what escapes: JS_UNINITIALIZED,
// which no value of JS is, until then.
napi_status napi_open_escapable_handle_scope(napi_env env, napi_escapable_handle_scope* result) {
  REQUIRE(env, result);
  EXPECT(env, handle_new(JS_UNINITIALIZED) != NULL, napi_generic_failure);
  *result = (napi_escapable_handle_scope)(uintptr_t)(count + 1);
  return env_status(env, napi_ok);
}

napi_status napi_close_escapable_handle_scope(napi_env env, napi_escapable_handle_scope scope) {
  size_t mark;
  EXPECT(env, scope_mark(scope, &mark), napi_handle_scope_mismatch);
  handle_release(env->ctx, mark);
  return env_status(env, napi_ok);
}

napi_status napi_escape_handle(napi_env env, napi_escapable_handle_scope scope, napi_value escapee,
                               napi_value* result) {
  size_t mark;
  REQUIRE(env, escapee);
  REQUIRE(env, result);
  EXPECT(env, scope_mark(scope, &mark) && mark > 0, napi_invalid_arg);
  JSValue* slot = slot_at(mark - 1);
  EXPECT(env, JS_IsUninitialized(*slot), napi_escape_called_twice);
  *slot = JS_DupValue(env->ctx, value_of(escapee));
  *result = (napi_value)slot;
  return env_status(env, napi_ok);
}
