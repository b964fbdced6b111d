// Primitive values: made, taken apart, told apart, converted.
#include <math.h>

#include "node_api.h"

napi_status napi_get_undefined(napi_env env, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_UNDEFINED, result);
}

napi_status napi_get_null(napi_env env, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NULL, result);
}

napi_status napi_get_global(napi_env env, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_GetGlobalObject(env->ctx), result);
}

napi_status napi_get_boolean(napi_env env, bool value, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewBool(env->ctx, value), result);
}

napi_status napi_create_double(napi_env env, double value, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewFloat64(env->ctx, value), result);
}

napi_status napi_create_int32(napi_env env, int32_t value, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewInt32(env->ctx, value), result);
}

napi_status napi_create_uint32(napi_env env, uint32_t value, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewUint32(env->ctx, value), result);
}

napi_status napi_create_int64(napi_env env, int64_t value, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewInt64(env->ctx, value), result);
}

napi_status napi_create_symbol(napi_env env, napi_value description, napi_value* result) {
  REQUIRE(env, result);
  JSValueConst argument = description == NULL ? JS_UNDEFINED : value_of(description);
  EXPECT(env, description == NULL || JS_IsString(argument), napi_string_expected);
  const JSValue symbol = env->intrinsics[INTRINSIC_SYMBOL];
  return env_return(env, JS_Call(env->ctx, symbol, JS_UNDEFINED, description != NULL, &argument), result);
}

napi_status napi_typeof(napi_env env, napi_value value, napi_valuetype* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  const JSValue v = value_of(value);
  if (JS_IsNumber(v)) {
    *result = napi_number;
  } else if (JS_IsBigInt(env->ctx, v)) {
    *result = napi_bigint;
  } else if (JS_IsString(v)) {
    *result = napi_string;
  } else if (JS_IsFunction(env->ctx, v)) {
    *result = napi_function;
  } else if (is_external(v)) {
    *result = napi_external;
  } else if (JS_IsObject(v)) {
    *result = napi_object;
  } else if (JS_IsBool(v)) {
    *result = napi_boolean;
  } else if (JS_IsSymbol(v)) {
    *result = napi_symbol;
  } else if (JS_IsUndefined(v)) {
    *result = napi_undefined;
  } else if (JS_IsNull(v)) {
    *result = napi_null;
  } else {
    return env_status(env, napi_invalid_arg);
  }
  return env_status(env, napi_ok);
}

// ---- numbers ------------------------------------------------------------------------------------------------

// Reads a number as it is, without the conversions that could run JS.
static bool get_number(napi_env env, napi_value value, double* result) {
  if (!JS_IsNumber(value_of(value))) return false;
  return JS_ToFloat64(env->ctx, result, value_of(value)) == 0;
}

napi_status napi_get_value_double(napi_env env, napi_value value, double* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  EXPECT(env, get_number(env, value, result), napi_number_expected);
  return env_status(env, napi_ok);
}

// Modulo 2^32, and 0 for what is not finite: JS's own ToInt32.
napi_status napi_get_value_int32(napi_env env, napi_value value, int32_t* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  EXPECT(env, JS_IsNumber(value_of(value)), napi_number_expected);
  JS_ToInt32(env->ctx, result, value_of(value));
  return env_status(env, napi_ok);
}

napi_status napi_get_value_uint32(napi_env env, napi_value value, uint32_t* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  EXPECT(env, JS_IsNumber(value_of(value)), napi_number_expected);
  JS_ToUint32(env->ctx, result, value_of(value));
  return env_status(env, napi_ok);
}

// Not modulo: the nearest value that fits, and 0 for what is not finite.
napi_status napi_get_value_int64(napi_env env, napi_value value, int64_t* result) {
  double number;
  REQUIRE(env, value);
  REQUIRE(env, result);
  EXPECT(env, get_number(env, value, &number), napi_number_expected);
  if (!isfinite(number)) {
    *result = 0;
  } else if (number >= 0x1p63) {
    *result = INT64_MAX;
  } else if (number <= -0x1p63) {
    *result = INT64_MIN;
  } else {
    *result = (int64_t)number;
  }
  return env_status(env, napi_ok);
}

napi_status napi_get_value_bool(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  EXPECT(env, JS_IsBool(value_of(value)), napi_boolean_expected);
  *result = JS_ToBool(env->ctx, value_of(value)) > 0;
  return env_status(env, napi_ok);
}

// ---- conversions --------------------------------------------------------------------------------------------

napi_status napi_coerce_to_bool(napi_env env, napi_value value, napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, value);
  REQUIRE(env, result);
  const int truth = JS_ToBool(env->ctx, value_of(value));
  return env_return(env, truth < 0 ? JS_EXCEPTION : JS_NewBool(env->ctx, truth), result);
}

// These two say what was expected and leave the exception that the conversion threw pending, as Node does.

napi_status napi_coerce_to_number(napi_env env, napi_value value, napi_value* result) {
  double number;
  MAY_RUN_JS(env);
  REQUIRE(env, value);
  REQUIRE(env, result);
  if (JS_ToFloat64(env->ctx, &number, value_of(value)) < 0) {
    env_caught(env);
    return env_status(env, napi_number_expected);
  }
  return env_return(env, JS_NewFloat64(env->ctx, number), result);
}

napi_status napi_coerce_to_string(napi_env env, napi_value value, napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, value);
  REQUIRE(env, result);
  const JSValue string = JS_ToString(env->ctx, value_of(value));
  if (JS_IsException(string)) {
    env_caught(env);
    return env_status(env, napi_string_expected);
  }
  return env_return(env, string, result);
}

JSValue object_from(napi_env env, JSValueConst value) {
  if (JS_IsObject(value)) return JS_DupValue(env->ctx, value);
  if (JS_IsUndefined(value) || JS_IsNull(value)) {
    napi_throw_type_error(env, NULL, "Cannot convert undefined or null to object");
    return JS_EXCEPTION;
  }
  const JSValue object = JS_Call(env->ctx, env->intrinsics[INTRINSIC_OBJECT], JS_UNDEFINED, 1, &value);
  if (JS_IsException(object)) env_caught(env);
  return object;
}

napi_status napi_coerce_to_object(napi_env env, napi_value value, napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, value);
  REQUIRE(env, result);
  const JSValue object = object_from(env, value_of(value));
  EXPECT(env, !JS_IsException(object), napi_object_expected);
  return env_return(env, object, result);
}

// ---- comparisons --------------------------------------------------------------------------------------------

napi_status napi_strict_equals(napi_env env, napi_value left, napi_value right, bool* result) {
  REQUIRE(env, left);
  REQUIRE(env, right);
  REQUIRE(env, result);
  *result = JS_StrictEq(env->ctx, value_of(left), value_of(right));
  return env_status(env, napi_ok);
}

napi_status napi_instanceof(napi_env env, napi_value object, napi_value constructor, bool* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, object);
  REQUIRE(env, result);
  *result = false;
  REQUIRE(env, constructor);
  if (!JS_IsFunction(env->ctx, value_of(constructor))) {
    napi_throw_type_error(env, "ERR_NAPI_CONS_FUNCTION", "Constructor must be a function");
    return env_status(env, napi_function_expected);
  }
  const int is_instance = JS_IsInstanceOf(env->ctx, value_of(object), value_of(constructor));
  if (is_instance < 0) return env_caught(env);
  *result = is_instance > 0;
  return env_status(env, napi_ok);
}
