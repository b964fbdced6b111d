// References: values that native code keeps beyond a scope. With a count above 0 they hold their value; at 0 they
// only remember it, through a WeakRef of JS, for as long as something else holds it.
#include <stdlib.h>

#include "node_api.h"

struct napi_ref__ {
  uint32_t count;
  JSValue value;  // When count > 0, else JS_UNDEFINED.
  JSValue weak;   // A WeakRef, made when first needed.
};

// The value, for the caller to free; JS_UNDEFINED when it has died.
static JSValue referenced(napi_env env, const struct napi_ref__* reference) {
  if (reference->count > 0) return JS_DupValue(env->ctx, reference->value);
  return JS_Call(env->ctx, env->intrinsics[INTRINSIC_WEAK_REF_DEREF], reference->weak, 0, NULL);
}

// Lets go of the value but remembers it. Returns false when an exception is pending in the context.
static bool weaken(napi_env env, struct napi_ref__* reference, JSValueConst value) {
  if (JS_IsUndefined(reference->weak)) {
    reference->weak = JS_CallConstructor(env->ctx, env->intrinsics[INTRINSIC_WEAK_REF], 1, &value);
    if (JS_IsException(reference->weak)) {
      reference->weak = JS_UNDEFINED;
      return false;
    }
  }
  return true;
}

napi_status napi_create_reference(napi_env env, napi_value value, uint32_t count, napi_ref* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  const JSValue v = value_of(value);
  EXPECT(env, JS_IsObject(v) || JS_IsSymbol(v), napi_invalid_arg);
  struct napi_ref__* reference = malloc(sizeof(*reference));
  EXPECT(env, reference != NULL, napi_generic_failure);
  *reference = (struct napi_ref__){count, JS_UNDEFINED, JS_UNDEFINED};
  if (count > 0) {
    reference->value = JS_DupValue(env->ctx, v);
  } else if (!weaken(env, reference, v)) {
    free(reference);
    return env_caught(env);
  }
  *result = reference;
  return env_status(env, napi_ok);
}

napi_status napi_delete_reference(node_api_basic_env env, napi_ref reference) {
  REQUIRE(env, reference);
  JS_FreeValue(env->ctx, reference->value);
  JS_FreeValue(env->ctx, reference->weak);
  free(reference);
  return env_status(env, napi_ok);
}

napi_status napi_reference_ref(napi_env env, napi_ref reference, uint32_t* result) {
  REQUIRE(env, reference);
  if (reference->count == 0) {
    const JSValue value = referenced(env, reference);
    if (JS_IsException(value)) return env_caught(env);
    reference->value = value;
    // It has died: the count stays 0, and that is no error (Node's header says it is one; Node does not).
    if (JS_IsUndefined(value)) reference->count--;
  }
  reference->count++;
  if (result != NULL) *result = reference->count;
  return env_status(env, napi_ok);
}

napi_status napi_reference_unref(napi_env env, napi_ref reference, uint32_t* result) {
  REQUIRE(env, reference);
  EXPECT(env, reference->count > 0, napi_generic_failure);
  if (reference->count == 1) {
    if (!weaken(env, reference, reference->value)) return env_caught(env);
    JS_FreeValue(env->ctx, reference->value);
    reference->value = JS_UNDEFINED;
  }
  reference->count--;
  if (result != NULL) *result = reference->count;
  return env_status(env, napi_ok);
}

napi_status napi_get_reference_value(napi_env env, napi_ref reference, napi_value* result) {
  REQUIRE(env, reference);
  REQUIRE(env, result);
  const JSValue value = referenced(env, reference);
  if (!JS_IsUndefined(value)) return env_return(env, value, result);
  *result = NULL;
  return env_status(env, napi_ok);
}
