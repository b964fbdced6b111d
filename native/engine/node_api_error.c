// Errors and exceptions.
#include "node_api.h"

// A new error object with a stack. Takes `message` over; `code` may be JS_UNDEFINED.
static JSValue error_new(napi_env env, enum intrinsic constructor, JSValueConst code, JSValue message) {
  JSContext* ctx = env->ctx;
  if (JS_IsException(message)) return JS_EXCEPTION;
  const JSValue error = JS_CallConstructor(ctx, env->intrinsics[constructor], 1, (JSValueConst*)&message);
  JS_FreeValue(ctx, message);
  if (JS_IsException(error) || JS_IsUndefined(code)) return error;
  if (JS_SetPropertyStr(ctx, error, "code", JS_DupValue(ctx, code)) < 0) {
    JS_FreeValue(ctx, error);
    return JS_EXCEPTION;
  }
  return error;
}

static napi_status create(napi_env env, enum intrinsic constructor, napi_value code, napi_value message,
                          napi_value* result) {
  REQUIRE(env, message);
  REQUIRE(env, result);
  EXPECT(env, JS_IsString(value_of(message)), napi_string_expected);
  EXPECT(env, code == NULL || JS_IsString(value_of(code)), napi_string_expected);
  const JSValue js_code = code == NULL ? JS_UNDEFINED : value_of(code);
  return env_return(env, error_new(env, constructor, js_code, JS_DupValue(env->ctx, value_of(message))), result);
}

napi_status napi_create_error(napi_env env, napi_value code, napi_value message, napi_value* result) {
  return create(env, INTRINSIC_ERROR, code, message, result);
}

napi_status napi_create_type_error(napi_env env, napi_value code, napi_value message, napi_value* result) {
  return create(env, INTRINSIC_TYPE_ERROR, code, message, result);
}

napi_status napi_create_range_error(napi_env env, napi_value code, napi_value message, napi_value* result) {
  return create(env, INTRINSIC_RANGE_ERROR, code, message, result);
}

// Makes `error`, which is taken over, the pending exception.
static napi_status set_pending(napi_env env, JSValue error) {
  if (JS_IsException(error)) {
    env_caught(env);
    return napi_pending_exception;
  }
  env->exception = error;
  env->has_exception = true;
  return env_status(env, napi_ok);
}

static napi_status throw_new(napi_env env, enum intrinsic constructor, const char* code, const char* message) {
  MAY_RUN_JS(env);
  const JSValue js_code = code == NULL ? JS_UNDEFINED : string_new(env, code, NAPI_AUTO_LENGTH);
  if (JS_IsException(js_code)) return env_caught(env);
  const JSValue text = string_new(env, message == NULL ? "" : message, NAPI_AUTO_LENGTH);
  const JSValue error = error_new(env, constructor, js_code, text);
  JS_FreeValue(env->ctx, js_code);
  return set_pending(env, error);
}

napi_status napi_throw_error(napi_env env, const char* code, const char* message) {
  return throw_new(env, INTRINSIC_ERROR, code, message);
}

napi_status napi_throw_type_error(napi_env env, const char* code, const char* message) {
  return throw_new(env, INTRINSIC_TYPE_ERROR, code, message);
}

napi_status napi_throw_range_error(napi_env env, const char* code, const char* message) {
  return throw_new(env, INTRINSIC_RANGE_ERROR, code, message);
}

napi_status napi_throw(napi_env env, napi_value error) {
  MAY_RUN_JS(env);
  REQUIRE(env, error);
  return set_pending(env, JS_DupValue(env->ctx, value_of(error)));
}

napi_status napi_is_error(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = JS_IsError(env->ctx, value_of(value));
  return env_status(env, napi_ok);
}

napi_status napi_is_exception_pending(napi_env env, bool* result) {
  REQUIRE(env, result);
  *result = env->has_exception;
  return env_status(env, napi_ok);
}

napi_status napi_get_and_clear_last_exception(napi_env env, napi_value* result) {
  REQUIRE(env, result);
  if (!env->has_exception) return napi_get_undefined(env, result);
  env->has_exception = false;
  return env_return(env, env->exception, result);
}

// An exception that nobody can catch any more.
napi_status napi_fatal_exception(napi_env env, napi_value error) {
  REQUIRE(env, error);
  fatal_error(env->ctx, "uncaught exception", value_of(error));
}
