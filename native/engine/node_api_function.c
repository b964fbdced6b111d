// Functions and classes that native code implements, and calls from native code into JS.
#include "node_api.h"

// What a JS function of ours calls.
struct native_function {
  napi_callback callback;
  void* data;
};

struct napi_callback_info__ {
  JSValueConst this_value;
  JSValueConst new_target;  // JS_UNDEFINED unless called by `new`.
  int argc;
  JSValueConst* argv;
  void* data;
};

static JSClassID function_class;

static void function_finalize(JSRuntime* runtime, JSValue value) {
  js_free_rt(runtime, JS_GetOpaque(value, function_class));
}

// The object of a `new`: its prototype is that of new.target, as for every class.
static JSValue new_this(JSContext* ctx, JSValueConst new_target) {
  const JSValue prototype = JS_GetPropertyStr(ctx, new_target, "prototype");
  if (JS_IsException(prototype)) return prototype;
  const JSValue object = JS_IsObject(prototype) ? JS_NewObjectProto(ctx, prototype) : JS_NewObject(ctx);
  JS_FreeValue(ctx, prototype);
  return object;
}

// Calls the native function in a scope of its own and returns its result, or throws what it left pending.
static JSValue invoke(napi_env env, const struct native_function* function, napi_callback_info info) {
  const bool was_called_by_loop = env->is_called_by_loop;
  const size_t mark = handle_mark();
  env->is_called_by_loop = false;
  napi_value result = function->callback(env, info);
  env->is_called_by_loop = was_called_by_loop;
  JSValue value = JS_UNDEFINED;
  if (addon_take_exception(env->ctx)) {
    value = JS_EXCEPTION;
  } else if (result != NULL) {
    value = JS_DupValue(env->ctx, value_of(result));
  }
  handle_release(env->ctx, mark);
  return value;
}

static JSValue function_call(JSContext* ctx, JSValueConst function, JSValueConst this_value, int argc,
                             JSValueConst* argv, int flags) {
  napi_env env = &addon_env;
  const struct native_function* native = JS_GetOpaque(function, function_class);
  struct napi_callback_info__ info = {this_value, JS_UNDEFINED, argc, argv, native->data};
  if ((flags & JS_CALL_FLAG_CONSTRUCTOR) == 0) return invoke(env, native, &info);
  info.new_target = this_value;
  const JSValue object = new_this(ctx, this_value);
  if (JS_IsException(object)) return object;
  info.this_value = object;
  const JSValue value = invoke(env, native, &info);
  if (JS_IsException(value) || JS_IsObject(value)) {
    JS_FreeValue(ctx, object);
    return value;
  }
  JS_FreeValue(ctx, value);
  return object;
}

void functions_define(napi_env env) {
  static const JSClassDef definition = {
      .class_name = "Function",
      .finalizer = function_finalize,
      .call = function_call,
  };
  JS_NewClassID(&function_class);
  JS_NewClass(JS_GetRuntime(env->ctx), function_class, &definition);
}

JSValue function_new(napi_env env, const char* name, size_t length, napi_callback callback, void* data) {
  JSContext* ctx = env->ctx;
  const JSValue prototype = env->intrinsics[INTRINSIC_FUNCTION_PROTOTYPE];
  const JSValue function = JS_NewObjectProtoClass(ctx, prototype, function_class);
  if (JS_IsException(function)) return function;
  struct native_function* native = js_malloc(ctx, sizeof(*native));
  if (native == NULL) goto fail;
  *native = (struct native_function){callback, data};
  JS_SetOpaque(function, native);
  const JSValue js_name = string_new(env, name == NULL ? "" : name, name == NULL ? 0 : length);
  if (JS_IsException(js_name)) goto fail;
  if (JS_DefinePropertyValueStr(ctx, function, "name", js_name, JS_PROP_CONFIGURABLE) < 0) goto fail;
  if (JS_DefinePropertyValueStr(ctx, function, "length", JS_NewInt32(ctx, 0), JS_PROP_CONFIGURABLE) < 0) goto fail;
  return function;

fail:
  JS_FreeValue(ctx, function);
  return JS_EXCEPTION;
}

napi_status napi_create_function(napi_env env, const char* name, size_t length, napi_callback callback, void* data,
                                 napi_value* result) {
  REQUIRE(env, callback);
  REQUIRE(env, result);
  MAY_RUN_JS(env);
  const JSValue function = function_new(env, name, length, callback, data);
  if (!JS_IsException(function)) JS_SetConstructorBit(env->ctx, function, 1);
  return env_return(env, function, result);
}

// Gives a constructor its prototype object with the members that are not static.
static napi_status define_members(napi_env env, JSValueConst constructor, size_t count,
                                  const napi_property_descriptor* properties) {
  JSContext* ctx = env->ctx;
  const JSValue prototype = JS_NewObject(ctx);
  if (JS_IsException(prototype)) return env_caught(env);
  napi_value target = handle_new(prototype);
  napi_value class = handle_new(JS_DupValue(ctx, constructor));
  EXPECT(env, target != NULL && class != NULL, napi_generic_failure);
  for (size_t index = 0; index < count; index++) {
    napi_value owner = (properties[index].attributes & napi_static) ? class : target;
    const napi_status status = napi_define_properties(env, owner, 1, &properties[index]);
    if (status != napi_ok) return status;
  }
  JS_SetConstructor(ctx, constructor, prototype);
  return napi_ok;
}

napi_status napi_define_class(napi_env env, const char* name, size_t length, napi_callback constructor, void* data,
                              size_t property_count, const napi_property_descriptor* properties,
                              napi_value* result) {
  REQUIRE(env, result);
  REQUIRE(env, constructor);
  if (property_count > 0) REQUIRE(env, properties);
  MAY_RUN_JS(env);
  const JSValue class = function_new(env, name, length, constructor, data);
  if (JS_IsException(class)) return env_caught(env);
  JS_SetConstructorBit(env->ctx, class, 1);
  const size_t mark = handle_mark();
  const napi_status status = define_members(env, class, property_count, properties);
  handle_release(env->ctx, mark);
  if (status != napi_ok) {
    JS_FreeValue(env->ctx, class);
    return env_status(env, status);
  }
  return env_return(env, class, result);
}

// ---- what a callback was called with ------------------------------------------------------------------------

// `this` as a function outside strict mode sees it, which is what Node's native functions are.
static JSValue sloppy_this(napi_env env, JSValueConst this_value) {
  if (JS_IsUndefined(this_value) || JS_IsNull(this_value)) return JS_GetGlobalObject(env->ctx);
  return object_from(env, this_value);
}

napi_status napi_get_cb_info(napi_env env, napi_callback_info info, size_t* argc, napi_value* argv,
                             napi_value* this_arg, void** data) {
  REQUIRE(env, info);
  if (argv != NULL) {
    REQUIRE(env, argc);
    for (size_t index = 0; index < *argc; index++) {
      const bool given = index < (size_t)info->argc;
      argv[index] = handle_new(given ? JS_DupValue(env->ctx, info->argv[index]) : JS_UNDEFINED);
      EXPECT(env, argv[index] != NULL, napi_generic_failure);
    }
  }
  if (argc != NULL) *argc = (size_t)info->argc;
  if (this_arg != NULL) {
    const JSValue object = sloppy_this(env, info->this_value);
    EXPECT(env, !JS_IsException(object), napi_pending_exception);
    *this_arg = handle_new(object);
    EXPECT(env, *this_arg != NULL, napi_generic_failure);
  }
  if (data != NULL) *data = info->data;
  return env_status(env, napi_ok);
}

napi_status napi_get_new_target(napi_env env, napi_callback_info info, napi_value* result) {
  REQUIRE(env, info);
  REQUIRE(env, result);
  *result = NULL;
  if (JS_IsUndefined(info->new_target)) return env_status(env, napi_ok);
  return env_return(env, JS_DupValue(env->ctx, info->new_target), result);
}

// ---- calls --------------------------------------------------------------------------------------------------

// Arguments on the C stack up to this many; more are rare and go to the heap.
#define FEW_ARGUMENTS 16

typedef JSValue caller(JSContext* ctx, JSValueConst function, JSValueConst receiver, int argc, JSValueConst* argv);

static JSValue construct(JSContext* ctx, JSValueConst function, JSValueConst receiver, int argc, JSValueConst* argv) {
  (void)receiver;
  return JS_CallConstructor(ctx, function, argc, argv);
}

// Calls with handles as arguments. The callee's microtasks stay queued.
static napi_status call_with(napi_env env, caller* call, JSValueConst function, JSValueConst receiver, size_t argc,
                             const napi_value* argv, napi_value* result) {
  JSValueConst few[FEW_ARGUMENTS];
  JSValueConst* values = few;
  if (argc > FEW_ARGUMENTS) {
    values = js_malloc(env->ctx, argc * sizeof(*values));
    if (values == NULL) return env_caught(env);
  }
  napi_status status = napi_ok;
  for (size_t index = 0; index < argc; index++) {
    if (argv[index] == NULL) status = napi_invalid_arg;
    values[index] = argv[index] == NULL ? JS_UNDEFINED : value_of(argv[index]);
  }
  JSValue value = JS_UNDEFINED;
  if (status == napi_ok) value = call(env->ctx, function, receiver, (int)argc, values);
  if (values != few) js_free(env->ctx, values);
  if (status != napi_ok) return env_status(env, status);
  if (JS_IsException(value)) return env_caught(env);
  if (result != NULL) return env_return(env, value, result);
  JS_FreeValue(env->ctx, value);
  return env_status(env, napi_ok);
}

napi_status napi_call_function(napi_env env, napi_value receiver, napi_value function, size_t argc,
                               const napi_value* argv, napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, function);
  if (argc > 0) REQUIRE(env, argv);
  EXPECT(env, JS_IsFunction(env->ctx, value_of(function)), napi_invalid_arg);
  const JSValue this_value = receiver == NULL ? JS_UNDEFINED : value_of(receiver);
  return call_with(env, JS_Call, value_of(function), this_value, argc, argv, result);
}

napi_status napi_new_instance(napi_env env, napi_value constructor, size_t argc, const napi_value* argv,
                              napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, constructor);
  REQUIRE(env, result);
  if (argc > 0) REQUIRE(env, argv);
  EXPECT(env, JS_IsFunction(env->ctx, value_of(constructor)), napi_invalid_arg);
  return call_with(env, construct, value_of(constructor), JS_UNDEFINED, argc, argv, result);
}

// ---- calls from the loop ------------------------------------------------------------------------------------

// In Node a call that comes from no JS runs the microtasks afterwards. Here too, unless it failed: then the exception
// is the caller's to take, and the loop's to report.
napi_status napi_make_callback(napi_env env, napi_async_context context, napi_value receiver, napi_value function,
                               size_t argc, const napi_value* argv, napi_value* result) {
  (void)context;
  REQUIRE(env, receiver);
  const napi_status status = napi_call_function(env, receiver, function, argc, argv, result);
  if (status == napi_ok && env->is_called_by_loop) engine_settle();
  return status;
}

// Contexts only name what an asynchronous call belongs to, for tools that do not exist here.
napi_status napi_async_init(napi_env env, napi_value resource, napi_value name, napi_async_context* result) {
  (void)resource;
  REQUIRE(env, name);
  REQUIRE(env, result);
  *result = (napi_async_context)env;
  return env_status(env, napi_ok);
}

napi_status napi_async_destroy(napi_env env, napi_async_context context) {
  REQUIRE(env, context);
  return env_status(env, napi_ok);
}

napi_status napi_open_callback_scope(napi_env env, napi_value resource, napi_async_context context,
                                     napi_callback_scope* result) {
  (void)resource, (void)context;
  REQUIRE(env, result);
  *result = (napi_callback_scope)env;
  return env_status(env, napi_ok);
}

napi_status napi_close_callback_scope(napi_env env, napi_callback_scope scope) {
  REQUIRE(env, scope);
  if (!env->has_exception && env->is_called_by_loop) engine_settle();
  return env_status(env, napi_ok);
}
