// Promises and dates.
#include <stdlib.h>

#include "node_api.h"

struct napi_deferred__ {
  JSValue resolvers[2];  // resolve, reject
};

napi_status napi_create_promise(napi_env env, napi_deferred* deferred, napi_value* promise) {
  MAY_RUN_JS(env);
  REQUIRE(env, deferred);
  REQUIRE(env, promise);
  struct napi_deferred__* made = malloc(sizeof(*made));
  EXPECT(env, made != NULL, napi_generic_failure);
  const JSValue value = JS_NewPromiseCapability(env->ctx, made->resolvers);
  if (JS_IsException(value)) {
    free(made);
    return env_caught(env);
  }
  *deferred = made;
  return env_return(env, value, promise);
}

// Calls one resolver and lets go of both: a deferred is good for one call.
static napi_status conclude(napi_env env, napi_deferred deferred, napi_value value, int which) {
  MAY_RUN_JS(env);
  REQUIRE(env, deferred);
  REQUIRE(env, value);
  JSContext* ctx = env->ctx;
  JSValueConst argument = value_of(value);
  const JSValue result = JS_Call(ctx, deferred->resolvers[which], JS_UNDEFINED, 1, &argument);
  JS_FreeValue(ctx, deferred->resolvers[0]);
  JS_FreeValue(ctx, deferred->resolvers[1]);
  free(deferred);
  if (JS_IsException(result)) return env_caught(env);
  JS_FreeValue(ctx, result);
  return env_status(env, napi_ok);
}

napi_status napi_resolve_deferred(napi_env env, napi_deferred deferred, napi_value resolution) {
  return conclude(env, deferred, resolution, 0);
}

napi_status napi_reject_deferred(napi_env env, napi_deferred deferred, napi_value rejection) {
  return conclude(env, deferred, rejection, 1);
}

napi_status napi_is_promise(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = JS_GetClassID(value_of(value)) == env->classes.promise;
  return env_status(env, napi_ok);
}

// ---- dates --------------------------------------------------------------------------------------------------

static bool is_date(napi_env env, napi_value value) { return JS_GetClassID(value_of(value)) == env->classes.date; }

napi_status napi_create_date(napi_env env, double milliseconds, napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, result);
  return env_return(env, JS_NewDate(env->ctx, milliseconds), result);
}

napi_status napi_is_date(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = is_date(env, value);
  return env_status(env, napi_ok);
}

napi_status napi_get_date_value(napi_env env, napi_value value, double* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, value);
  REQUIRE(env, result);
  EXPECT(env, is_date(env, value), napi_date_expected);
  const JSValue time = JS_Call(env->ctx, env->intrinsics[INTRINSIC_DATE_VALUE_OF], value_of(value), 0, NULL);
  if (JS_IsException(time)) return env_caught(env);
  JS_ToFloat64(env->ctx, result, time);
  return env_status(env, napi_ok);
}
