// Objects, arrays and their properties.
#include "node_api.h"

napi_status napi_create_object(napi_env env, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewObject(env->ctx), result);
}

napi_status napi_create_array(napi_env env, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewArray(env->ctx), result);
}

napi_status napi_create_array_with_length(napi_env env, size_t length, napi_value* result) {
  REQUIRE(env, result);
  const JSValue array = JS_NewArray(env->ctx);
  if (JS_IsException(array)) return env_caught(env);
  if (length > 0 && JS_SetPropertyStr(env->ctx, array, "length", JS_NewInt64(env->ctx, (int64_t)length)) < 0) {
    JS_FreeValue(env->ctx, array);
    return env_caught(env);
  }
  return env_return(env, array, result);
}

napi_status napi_is_array(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = JS_IsArray(env->ctx, value_of(value)) > 0;
  return env_status(env, napi_ok);
}

napi_status napi_get_array_length(napi_env env, napi_value value, uint32_t* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  EXPECT(env, JS_IsArray(env->ctx, value_of(value)) > 0, napi_array_expected);
  const JSValue length = JS_GetPropertyStr(env->ctx, value_of(value), "length");
  if (JS_IsException(length) || JS_ToUint32(env->ctx, result, length) < 0) return env_caught(env);
  return env_status(env, napi_ok);
}

// Puts an object in the place of the handle of a primitive value, as Node does: "text".length is a property too.
static napi_status make_object(napi_env env, napi_value* handle) {
  REQUIRE(env, *handle);
  if (JS_IsObject(value_of(*handle))) return napi_ok;
  const JSValue object = object_from(env, value_of(*handle));
  EXPECT(env, !JS_IsException(object), napi_object_expected);
  *handle = handle_new(object);
  EXPECT(env, *handle != NULL, napi_generic_failure);
  return napi_ok;
}

// What the functions below check first: that JS may run and that there is an object.
#define ON_OBJECT(env, object)                                                       \
  do {                                                                               \
    MAY_RUN_JS(env);                                                                 \
    const napi_status made = make_object((env), &(object));                          \
    if (made != napi_ok) return made;                                                \
  } while (0)

napi_status napi_get_prototype(napi_env env, napi_value object, napi_value* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, result);
  return env_return(env, JS_GetPrototype(env->ctx, value_of(object)), result);
}

// ---- a property, by any kind of key -------------------------------------------------------------------------

// What napi_get_property and its kin do once the key is an atom, which they free.

static napi_status get_at(napi_env env, napi_value object, JSAtom key, napi_value* result) {
  const JSValue value = JS_GetProperty(env->ctx, value_of(object), key);
  JS_FreeAtom(env->ctx, key);
  return env_return(env, value, result);
}

// As outside strict mode: a property that cannot be set stays as it is, and that is no error.
static napi_status set_at(napi_env env, napi_value object, JSAtom key, napi_value value) {
  const JSValue target = value_of(object);
  const JSValue copy = JS_DupValue(env->ctx, value_of(value));
  const int outcome = JS_SetPropertyInternal(env->ctx, target, key, copy, target, 0);
  JS_FreeAtom(env->ctx, key);
  return outcome < 0 ? env_caught(env) : env_status(env, napi_ok);
}

static napi_status has_at(napi_env env, napi_value object, JSAtom key, bool* result) {
  const int outcome = JS_HasProperty(env->ctx, value_of(object), key);
  JS_FreeAtom(env->ctx, key);
  if (outcome < 0) return env_caught(env);
  *result = outcome > 0;
  return env_status(env, napi_ok);
}

static napi_status delete_at(napi_env env, napi_value object, JSAtom key, bool* result) {
  const int outcome = JS_DeleteProperty(env->ctx, value_of(object), key, 0);
  JS_FreeAtom(env->ctx, key);
  if (outcome < 0) return env_caught(env);
  if (result != NULL) *result = outcome > 0;
  return env_status(env, napi_ok);
}

// Makes `name` of a key, or fails.
#define KEY(name, env, expression)                                                   \
  const JSAtom name = (expression);                                                  \
  if (name == JS_ATOM_NULL) return env_caught(env)

napi_status napi_get_property(napi_env env, napi_value object, napi_value key, napi_value* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, key);
  REQUIRE(env, result);
  KEY(atom, env, JS_ValueToAtom(env->ctx, value_of(key)));
  return get_at(env, object, atom, result);
}

napi_status napi_set_property(napi_env env, napi_value object, napi_value key, napi_value value) {
  ON_OBJECT(env, object);
  REQUIRE(env, key);
  REQUIRE(env, value);
  KEY(atom, env, JS_ValueToAtom(env->ctx, value_of(key)));
  return set_at(env, object, atom, value);
}

napi_status napi_has_property(napi_env env, napi_value object, napi_value key, bool* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, key);
  REQUIRE(env, result);
  KEY(atom, env, JS_ValueToAtom(env->ctx, value_of(key)));
  return has_at(env, object, atom, result);
}

napi_status napi_delete_property(napi_env env, napi_value object, napi_value key, bool* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, key);
  KEY(atom, env, JS_ValueToAtom(env->ctx, value_of(key)));
  return delete_at(env, object, atom, result);
}

napi_status napi_has_own_property(napi_env env, napi_value object, napi_value key, bool* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, key);
  REQUIRE(env, result);
  EXPECT(env, JS_IsString(value_of(key)) || JS_IsSymbol(value_of(key)), napi_name_expected);
  KEY(atom, env, JS_ValueToAtom(env->ctx, value_of(key)));
  const int outcome = JS_GetOwnProperty(env->ctx, NULL, value_of(object), atom);
  JS_FreeAtom(env->ctx, atom);
  if (outcome < 0) return env_caught(env);
  *result = outcome > 0;
  return env_status(env, napi_ok);
}

napi_status napi_get_named_property(napi_env env, napi_value object, const char* name, napi_value* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, name);
  REQUIRE(env, result);
  KEY(atom, env, JS_NewAtom(env->ctx, name));
  return get_at(env, object, atom, result);
}

napi_status napi_set_named_property(napi_env env, napi_value object, const char* name, napi_value value) {
  ON_OBJECT(env, object);
  REQUIRE(env, name);
  REQUIRE(env, value);
  KEY(atom, env, JS_NewAtom(env->ctx, name));
  return set_at(env, object, atom, value);
}

napi_status napi_has_named_property(napi_env env, napi_value object, const char* name, bool* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, name);
  REQUIRE(env, result);
  KEY(atom, env, JS_NewAtom(env->ctx, name));
  return has_at(env, object, atom, result);
}

napi_status napi_get_element(napi_env env, napi_value object, uint32_t index, napi_value* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, result);
  return env_return(env, JS_GetPropertyUint32(env->ctx, value_of(object), index), result);
}

napi_status napi_set_element(napi_env env, napi_value object, uint32_t index, napi_value value) {
  ON_OBJECT(env, object);
  REQUIRE(env, value);
  KEY(atom, env, JS_NewAtomUInt32(env->ctx, index));
  return set_at(env, object, atom, value);
}

napi_status napi_has_element(napi_env env, napi_value object, uint32_t index, bool* result) {
  ON_OBJECT(env, object);
  REQUIRE(env, result);
  KEY(atom, env, JS_NewAtomUInt32(env->ctx, index));
  return has_at(env, object, atom, result);
}

napi_status napi_delete_element(napi_env env, napi_value object, uint32_t index, bool* result) {
  ON_OBJECT(env, object);
  KEY(atom, env, JS_NewAtomUInt32(env->ctx, index));
  return delete_at(env, object, atom, result);
}

// ---- definitions --------------------------------------------------------------------------------------------

static int property_flags(napi_property_attributes attributes) {
  int flags = JS_PROP_HAS_ENUMERABLE | JS_PROP_HAS_CONFIGURABLE;
  if (attributes & napi_enumerable) flags |= JS_PROP_ENUMERABLE;
  if (attributes & napi_configurable) flags |= JS_PROP_CONFIGURABLE;
  return flags;
}

static JSValue accessor(napi_env env, const napi_property_descriptor* property, napi_callback callback) {
  if (callback == NULL) return JS_UNDEFINED;
  return function_new(env, property->utf8name, NAPI_AUTO_LENGTH, callback, property->data);
}

static int define_accessors(napi_env env, JSValueConst object, JSAtom key, const napi_property_descriptor* property) {
  JSContext* ctx = env->ctx;
  const JSValue getter = accessor(env, property, property->getter);
  const JSValue setter = accessor(env, property, property->setter);
  int outcome = -1;
  if (!JS_IsException(getter) && !JS_IsException(setter)) {
    const int flags = property_flags(property->attributes) | JS_PROP_HAS_GET | JS_PROP_HAS_SET;
    outcome = JS_DefineProperty(ctx, object, key, JS_UNDEFINED, getter, setter, flags);
  }
  JS_FreeValue(ctx, getter);
  JS_FreeValue(ctx, setter);
  return outcome;
}

static int define_value(napi_env env, JSValueConst object, JSAtom key, const napi_property_descriptor* property) {
  JSContext* ctx = env->ctx;
  JSValue value;
  if (property->method != NULL) {
    value = function_new(env, property->utf8name, NAPI_AUTO_LENGTH, property->method, property->data);
    if (JS_IsException(value)) return -1;
  } else {
    value = JS_DupValue(ctx, value_of(property->value));
  }
  int flags = property_flags(property->attributes) | JS_PROP_HAS_VALUE | JS_PROP_HAS_WRITABLE;
  if (property->attributes & napi_writable) flags |= JS_PROP_WRITABLE;
  const int outcome = JS_DefineProperty(ctx, object, key, value, JS_UNDEFINED, JS_UNDEFINED, flags);
  JS_FreeValue(ctx, value);
  return outcome;
}

static napi_status define_one(napi_env env, JSValueConst object, const napi_property_descriptor* property) {
  const bool has_accessors = property->getter != NULL || property->setter != NULL;
  EXPECT(env, has_accessors || property->method != NULL || property->value != NULL, napi_invalid_arg);
  JSAtom key;
  if (property->utf8name != NULL) {
    key = JS_NewAtom(env->ctx, property->utf8name);
  } else {
    REQUIRE(env, property->name);
    const JSValue name = value_of(property->name);
    EXPECT(env, JS_IsString(name) || JS_IsSymbol(name), napi_name_expected);
    key = JS_ValueToAtom(env->ctx, name);
  }
  if (key == JS_ATOM_NULL) return env_caught(env);
  const int outcome =
      has_accessors ? define_accessors(env, object, key, property) : define_value(env, object, key, property);
  JS_FreeAtom(env->ctx, key);
  if (outcome < 0) return env_caught(env);
  // The object refused it. The statuses are Node's.
  EXPECT(env, outcome > 0, property->value == NULL ? napi_generic_failure : napi_invalid_arg);
  return env_status(env, napi_ok);
}

napi_status napi_define_properties(napi_env env, napi_value object, size_t count,
                                   const napi_property_descriptor* properties) {
  ON_OBJECT(env, object);
  if (count > 0) REQUIRE(env, properties);
  for (size_t index = 0; index < count; index++) {
    const napi_status status = define_one(env, value_of(object), &properties[index]);
    if (status != napi_ok) return status;
  }
  return env_status(env, napi_ok);
}

static napi_status call_intrinsic(napi_env env, enum intrinsic function, napi_value object) {
  ON_OBJECT(env, object);
  JSValueConst argument = value_of(object);
  const JSValue result = JS_Call(env->ctx, env->intrinsics[function], JS_UNDEFINED, 1, &argument);
  if (JS_IsException(result)) return env_caught(env);
  JS_FreeValue(env->ctx, result);
  return env_status(env, napi_ok);
}

napi_status napi_object_freeze(napi_env env, napi_value object) {
  return call_intrinsic(env, INTRINSIC_OBJECT_FREEZE, object);
}

napi_status napi_object_seal(napi_env env, napi_value object) {
  return call_intrinsic(env, INTRINSIC_OBJECT_SEAL, object);
}
