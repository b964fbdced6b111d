// What the files of this Node-API implementation share. Node is the reference: same results, same statuses.
//
// Not here: napi_run_script (there is no parser), async work and thread-safe functions (there are no threads). An
// addon that needs them does not link.
#pragma once

#include <node_api.h>

#include "engine.h"

// Built-in functions and objects that the implementation calls, taken before any script can replace them.
enum intrinsic {
  INTRINSIC_ERROR,
  INTRINSIC_TYPE_ERROR,
  INTRINSIC_RANGE_ERROR,
  INTRINSIC_OBJECT,
  INTRINSIC_OBJECT_FREEZE,
  INTRINSIC_OBJECT_SEAL,
  INTRINSIC_WEAK_MAP,
  INTRINSIC_WEAK_MAP_GET,
  INTRINSIC_WEAK_MAP_SET,
  INTRINSIC_WEAK_REF,
  INTRINSIC_WEAK_REF_DEREF,
  INTRINSIC_BIG_INT,
  INTRINSIC_BIG_INT_TO_STRING,
  INTRINSIC_SYMBOL,
  INTRINSIC_DATA_VIEW,
  INTRINSIC_DATE_VALUE_OF,
  INTRINSIC_FUNCTION_PROTOTYPE,
  INTRINSIC_COUNT,
};

// Class numbers of QuickJS's own objects, which its header does not name: taken from one object of each.
struct known_classes {
  JSClassID array_buffer;
  JSClassID first_typed_array;  // JS_TYPED_ARRAY_UINT8C; the others follow in the order of JSTypedArrayEnum.
  JSClassID data_view;
  JSClassID date;
  JSClassID promise;
};

// A function to be called, once, when some object has died.
struct finalizer {
  struct finalizer* next;
  napi_finalize call;
  void* data;
  void* hint;
};

struct napi_env__ {
  JSContext* ctx;
  napi_extended_error_info last_error;
  // The pending exception, if has_exception.
  JSValue exception;
  bool has_exception;
  // Native code runs that the loop called, with no JS beneath it: what MakeCallback wants to know.
  bool is_called_by_loop;
  struct finalizer instance;  // napi_set_instance_data
  JSValue intrinsics[INTRINSIC_COUNT];
  struct known_classes classes;
};

extern struct napi_env__ addon_env;

// ---- statuses (node_api_env.c) ----

// Records and returns a status.
napi_status env_status(napi_env env, napi_status status);
// Moves the context's exception to the environment, where Node-API's callers look for it.
napi_status env_caught(napi_env env);
// Makes a handle of `value`, which it takes over; an exception becomes the pending one.
napi_status env_return(napi_env env, JSValue value, napi_value* result);
// Class numbers of the environment's own objects.
void functions_define(napi_env env);
void externals_define(napi_env env);
// Hands a finalizer to the loop, which calls it when no JS runs. Safe during a collection; takes it over.
void finalizer_queue(struct finalizer* finalizer);

// Fails with napi_invalid_arg unless the pointer is there.
#define REQUIRE(env, argument)                                                       \
  do {                                                                               \
    if ((argument) == NULL) return env_status((env), napi_invalid_arg);              \
  } while (0)

// Fails with `status` unless the condition holds.
#define EXPECT(env, condition, status)                                               \
  do {                                                                               \
    if (!(condition)) return env_status((env), (status));                            \
  } while (0)

// For functions that can run JS: they refuse to while an exception is pending.
#define MAY_RUN_JS(env) EXPECT((env), !(env)->has_exception, napi_pending_exception)

// ---- handles (node_api_handle.c) ----

static inline JSValue value_of(napi_value handle) { return *(JSValue*)handle; }

// A handle in the current scope; takes the value over. NULL when memory ran out.
napi_value handle_new(JSValue value);
// The place up to which handles exist, and the release of those beyond it.
size_t handle_mark(void);
void handle_release(JSContext* ctx, size_t mark);

// ---- others ----

// Object(value): what most functions do with what they are given. A TypeError becomes pending for undefined and null.
// Returns JS_EXCEPTION then (node_api_value.c).
JSValue object_from(napi_env env, JSValueConst value);

// A function of JS that calls `callback` (node_api_function.c).
JSValue function_new(napi_env env, const char* name, size_t length, napi_callback callback, void* data);
bool is_external(JSValueConst value);  // node_api_external.c
// Text as a JS string; `length` may be NAPI_AUTO_LENGTH (node_api_string.c).
JSValue string_new(napi_env env, const char* text, size_t length);
