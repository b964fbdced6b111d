// The environment of the one addon: its life, statuses, what it keeps with it, and how it meets the loop.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node_api.h"

struct napi_env__ addon_env;

// The addon's entry, which NODE_API_MODULE defines. Weak: the engine also links without an addon.
__attribute__((weak)) napi_value napi_register_module_v1(napi_env env, napi_value exports);

static const char* const intrinsic_paths[INTRINSIC_COUNT] = {
    [INTRINSIC_ERROR] = "Error",
    [INTRINSIC_TYPE_ERROR] = "TypeError",
    [INTRINSIC_RANGE_ERROR] = "RangeError",
    [INTRINSIC_OBJECT] = "Object",
    [INTRINSIC_OBJECT_FREEZE] = "Object.freeze",
    [INTRINSIC_OBJECT_SEAL] = "Object.seal",
    [INTRINSIC_WEAK_MAP] = "WeakMap",
    [INTRINSIC_WEAK_MAP_GET] = "WeakMap.prototype.get",
    [INTRINSIC_WEAK_MAP_SET] = "WeakMap.prototype.set",
    [INTRINSIC_WEAK_REF] = "WeakRef",
    [INTRINSIC_WEAK_REF_DEREF] = "WeakRef.prototype.deref",
    [INTRINSIC_BIG_INT] = "BigInt",
    [INTRINSIC_BIG_INT_TO_STRING] = "BigInt.prototype.toString",
    [INTRINSIC_SYMBOL] = "Symbol",
    [INTRINSIC_DATA_VIEW] = "DataView",
    [INTRINSIC_DATE_VALUE_OF] = "Date.prototype.valueOf",
    [INTRINSIC_FUNCTION_PROTOTYPE] = "Function.prototype",
};

// ---- life ---------------------------------------------------------------------------------------------------

static JSValue find_intrinsic(JSContext* ctx, JSValueConst global, const char* path) {
  JSValue value = JS_DupValue(ctx, global);
  while (*path != '\0') {
    const size_t length = strcspn(path, ".");
    const JSAtom name = JS_NewAtomLen(ctx, path, length);
    const JSValue member = JS_GetProperty(ctx, value, name);
    JS_FreeAtom(ctx, name);
    JS_FreeValue(ctx, value);
    value = member;
    path += length + (path[length] == '.');
  }
  return value;
}

static JSClassID class_of_new(JSContext* ctx, JSValue object) {
  const JSClassID id = JS_GetClassID(object);
  JS_FreeValue(ctx, object);
  return id;
}

static void find_classes(napi_env env) {
  JSContext* ctx = env->ctx;
  struct known_classes* classes = &env->classes;
  const JSValue buffer = JS_NewArrayBufferCopy(ctx, NULL, 0);
  JSValueConst arguments[] = {buffer, JS_UNDEFINED, JS_UNDEFINED};
  classes->array_buffer = JS_GetClassID(buffer);
  classes->first_typed_array = class_of_new(ctx, JS_NewTypedArray(ctx, 3, arguments, JS_TYPED_ARRAY_UINT8C));
  const JSValue view = JS_CallConstructor(ctx, env->intrinsics[INTRINSIC_DATA_VIEW], 1, arguments);
  classes->data_view = class_of_new(ctx, view);
  classes->date = class_of_new(ctx, JS_NewDate(ctx, 0));
  JSValue resolvers[2];
  classes->promise = class_of_new(ctx, JS_NewPromiseCapability(ctx, resolvers));
  JS_FreeValue(ctx, resolvers[0]);
  JS_FreeValue(ctx, resolvers[1]);
  JS_FreeValue(ctx, buffer);
}

void addon_register(JSContext* ctx) {
  if (napi_register_module_v1 == NULL) return;
  napi_env env = &addon_env;
  env->ctx = ctx;
  const JSValue global = JS_GetGlobalObject(ctx);
  for (int index = 0; index < INTRINSIC_COUNT; index++) {
    env->intrinsics[index] = find_intrinsic(ctx, global, intrinsic_paths[index]);
  }
  find_classes(env);
  functions_define(env);
  externals_define(env);
  const size_t mark = addon_enter();
  napi_value exports = handle_new(JS_NewObject(ctx));
  napi_value result = napi_register_module_v1(env, exports);
  const JSValue value = JS_DupValue(ctx, value_of(result == NULL ? exports : result));
  JS_DefinePropertyValueStr(ctx, global, "yavmNative", value, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
  addon_leave(mark);
  JS_FreeValue(ctx, global);
  if (addon_take_exception(ctx) || JS_HasException(ctx)) fatal_exception(ctx, "the native addon did not load");
}

// ---- the loop -----------------------------------------------------------------------------------------------

size_t addon_enter(void) {
  addon_env.is_called_by_loop = true;
  return handle_mark();
}

void addon_leave(size_t mark) {
  handle_release(addon_env.ctx, mark);
  addon_env.is_called_by_loop = false;
}

bool addon_take_exception(JSContext* ctx) {
  if (!addon_env.has_exception) return false;
  addon_env.has_exception = false;
  JS_Throw(ctx, addon_env.exception);
  return true;
}

// ---- finalizers and clean-up --------------------------------------------------------------------------------

static struct finalizer* queue;
static struct finalizer** queue_end = &queue;

void finalizer_queue(struct finalizer* finalizer) {
  finalizer->next = NULL;
  *queue_end = finalizer;
  queue_end = &finalizer->next;
}

bool addon_run_finalizers(void) {
  if (queue == NULL) return false;
  while (queue != NULL) {
    struct finalizer* finalizer = queue;
    queue = finalizer->next;
    if (queue == NULL) queue_end = &queue;
    const size_t mark = addon_enter();
    finalizer->call(&addon_env, finalizer->data, finalizer->hint);
    addon_leave(mark);
    free(finalizer);
  }
  return true;
}

struct cleanup {
  struct cleanup* next;
  napi_cleanup_hook call;
  void* data;
};

// The last one added comes first, which is the order in which they are called.
static struct cleanup* cleanups;

napi_status napi_add_env_cleanup_hook(node_api_basic_env env, napi_cleanup_hook call, void* data) {
  REQUIRE(env, call);
  struct cleanup* cleanup = malloc(sizeof(*cleanup));
  EXPECT(env, cleanup != NULL, napi_generic_failure);
  *cleanup = (struct cleanup){cleanups, call, data};
  cleanups = cleanup;
  return env_status(env, napi_ok);
}

napi_status napi_remove_env_cleanup_hook(node_api_basic_env env, napi_cleanup_hook call, void* data) {
  REQUIRE(env, call);
  for (struct cleanup** link = &cleanups; *link != NULL; link = &(*link)->next) {
    struct cleanup* cleanup = *link;
    if (cleanup->call != call || cleanup->data != data) continue;
    *link = cleanup->next;
    free(cleanup);
    break;
  }
  return env_status(env, napi_ok);
}

void addon_stop(void) {
  while (cleanups != NULL) {
    struct cleanup* cleanup = cleanups;
    cleanups = cleanup->next;
    cleanup->call(cleanup->data);
    free(cleanup);
  }
  const struct finalizer instance = addon_env.instance;
  addon_env.instance.call = NULL;
  if (instance.call != NULL) instance.call(&addon_env, instance.data, instance.hint);
}

// Replaces what was set before without calling its finalizer, as Node does.
napi_status napi_set_instance_data(node_api_basic_env env, void* data, napi_finalize finalize, void* hint) {
  env->instance = (struct finalizer){NULL, finalize, data, hint};
  return env_status(env, napi_ok);
}

napi_status napi_get_instance_data(node_api_basic_env env, void** data) {
  REQUIRE(env, data);
  *data = env->instance.data;
  return env_status(env, napi_ok);
}

// ---- statuses -----------------------------------------------------------------------------------------------

napi_status env_status(napi_env env, napi_status status) {
  env->last_error.error_code = status;
  env->last_error.error_message = NULL;
  return status;
}

napi_status env_caught(napi_env env) {
  if (env->has_exception) JS_FreeValue(env->ctx, env->exception);
  env->exception = JS_GetException(env->ctx);
  env->has_exception = true;
  return env_status(env, napi_pending_exception);
}

napi_status env_return(napi_env env, JSValue value, napi_value* result) {
  if (JS_IsException(value)) return env_caught(env);
  *result = handle_new(value);
  return env_status(env, *result == NULL ? napi_generic_failure : napi_ok);
}

// Node's texts, by status: addons show them.
static const char* const status_texts[] = {
    [napi_ok] = NULL,
    [napi_invalid_arg] = "Invalid argument",
    [napi_object_expected] = "An object was expected",
    [napi_string_expected] = "A string was expected",
    [napi_name_expected] = "A string or symbol was expected",
    [napi_function_expected] = "A function was expected",
    [napi_number_expected] = "A number was expected",
    [napi_boolean_expected] = "A boolean was expected",
    [napi_array_expected] = "An array was expected",
    [napi_generic_failure] = "Unknown failure",
    [napi_pending_exception] = "An exception is pending",
    [napi_cancelled] = "The async work item was cancelled",
    [napi_escape_called_twice] = "napi_escape_handle already called on scope",
    [napi_handle_scope_mismatch] = "Invalid handle scope usage",
    [napi_callback_scope_mismatch] = "Invalid callback scope usage",
    [napi_queue_full] = "Thread-safe function queue is full",
    [napi_closing] = "Thread-safe function handle is closing",
    [napi_bigint_expected] = "A bigint was expected",
    [napi_date_expected] = "A date was expected",
    [napi_arraybuffer_expected] = "An arraybuffer was expected",
    [napi_detachable_arraybuffer_expected] = "A detachable arraybuffer was expected",
    [napi_would_deadlock] = "Main thread would deadlock",
    [napi_no_external_buffers_allowed] = "External buffers are not allowed",
    [napi_cannot_run_js] = "Cannot run JavaScript",
};

napi_status napi_get_last_error_info(node_api_basic_env env, const napi_extended_error_info** result) {
  REQUIRE(env, result);
  env->last_error.error_message = status_texts[env->last_error.error_code];
  *result = &env->last_error;
  return napi_ok;
}

napi_status napi_get_version(node_api_basic_env env, uint32_t* result) {
  REQUIRE(env, result);
  *result = NAPI_VERSION;
  return env_status(env, napi_ok);
}

// There is no Node here: version 0.0.0 of "yavm".
napi_status napi_get_node_version(node_api_basic_env env, const napi_node_version** result) {
  static const napi_node_version version = {0, 0, 0, "yavm"};
  REQUIRE(env, result);
  *result = &version;
  return env_status(env, napi_ok);
}

// Memory outside the heap that objects keep alive. Reference counting frees it at once; nothing needs a nudge.
napi_status napi_adjust_external_memory(node_api_basic_env env, int64_t change, int64_t* adjusted) {
  static int64_t total;
  REQUIRE(env, adjusted);
  total += change;
  *adjusted = total;
  return env_status(env, napi_ok);
}

// What snprintf's %.*s is to print of a text that may be absent, or say its length itself.
static int printable(const char* text, size_t length) {
  if (text == NULL) return 0;
  if (length == NAPI_AUTO_LENGTH) length = strlen(text);
  return length < 500 ? (int)length : 500;
}

void napi_fatal_error(const char* location, size_t location_length, const char* message, size_t message_length) {
  char text[1100];
  snprintf(text, sizeof(text), "fatal error in native code: %.*s: %.*s", printable(location, location_length),
           location == NULL ? "" : location, printable(message, message_length), message == NULL ? "" : message);
  fatal_text(ENGINE_EXIT_CRASH, text);
}
