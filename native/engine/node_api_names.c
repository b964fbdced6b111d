// The names of an object's properties.
#include "node_api.h"

// A list being made. Atoms in it are owned.
struct names {
  JSAtom* atoms;
  uint32_t count;
  uint32_t capacity;
};

static bool contains(const struct names* names, JSAtom atom) {
  for (uint32_t index = 0; index < names->count; index++) {
    if (names->atoms[index] == atom) return true;
  }
  return false;
}

// Takes the atom over. Returns false when memory ran out.
static bool add(JSContext* ctx, struct names* names, JSAtom atom) {
  if (names->count == names->capacity) {
    const uint32_t capacity = names->capacity == 0 ? 16 : names->capacity * 2;
    JSAtom* grown = js_realloc(ctx, names->atoms, capacity * sizeof(*grown));
    if (grown == NULL) {
      JS_FreeAtom(ctx, atom);
      return false;
    }
    names->atoms = grown;
    names->capacity = capacity;
  }
  names->atoms[names->count++] = atom;
  return true;
}

// Whether a property has the attributes that the filter asks for. -1: an exception is pending.
static int passes(JSContext* ctx, JSValueConst object, JSAtom atom, napi_key_filter filter) {
  if ((filter & (napi_key_writable | napi_key_enumerable | napi_key_configurable)) == 0) return 1;
  JSPropertyDescriptor property;
  const int found = JS_GetOwnProperty(ctx, &property, object, atom);
  if (found <= 0) return found;
  JS_FreeValue(ctx, property.value);
  JS_FreeValue(ctx, property.getter);
  JS_FreeValue(ctx, property.setter);
  const bool is_accessor = (property.flags & JS_PROP_GETSET) != 0;
  if ((filter & napi_key_writable) && !is_accessor && !(property.flags & JS_PROP_WRITABLE)) return 0;
  if ((filter & napi_key_enumerable) && !(property.flags & JS_PROP_ENUMERABLE)) return 0;
  if ((filter & napi_key_configurable) && !(property.flags & JS_PROP_CONFIGURABLE)) return 0;
  return 1;
}

// Adds the names of one object of the prototype chain. A name that was seen nearer the object shadows this one, even
// when the filter refused it there; `seen` has those.
static bool collect(JSContext* ctx, JSValueConst object, napi_key_filter filter, struct names* seen,
                    struct names* names) {
  JSPropertyEnum* properties;
  uint32_t count;
  int kinds = 0;
  if ((filter & napi_key_skip_strings) == 0) kinds |= JS_GPN_STRING_MASK;
  if ((filter & napi_key_skip_symbols) == 0) kinds |= JS_GPN_SYMBOL_MASK;
  if (JS_GetOwnPropertyNames(ctx, &properties, &count, object, kinds) < 0) return false;
  bool good = true;
  for (uint32_t index = 0; index < count; index++) {
    const JSAtom atom = properties[index].atom;
    if (good && !contains(seen, atom)) {
      const int passed = passes(ctx, object, atom, filter);
      good = passed >= 0 && add(ctx, seen, JS_DupAtom(ctx, atom));
      if (good && passed > 0) good = add(ctx, names, JS_DupAtom(ctx, atom));
    }
    JS_FreeAtom(ctx, atom);
  }
  js_free(ctx, properties);
  return good;
}

static void release(JSContext* ctx, struct names* names) {
  for (uint32_t index = 0; index < names->count; index++) JS_FreeAtom(ctx, names->atoms[index]);
  js_free(ctx, names->atoms);
}

// The number that an index's name stands for, if it is one and numbers are wanted; else the name itself.
static JSValue name_value(JSContext* ctx, JSAtom atom, napi_key_conversion conversion) {
  const JSValue name = JS_AtomToValue(ctx, atom);
  if (conversion == napi_key_numbers_to_strings || !JS_IsString(name)) return name;
  uint32_t number;
  if (JS_ToUint32(ctx, &number, name) < 0 || number == UINT32_MAX) return name;
  const JSAtom canonical = JS_NewAtomUInt32(ctx, number);
  JS_FreeAtom(ctx, canonical);
  if (canonical != atom) return name;
  JS_FreeValue(ctx, name);
  return JS_NewUint32(ctx, number);
}

static JSValue names_array(JSContext* ctx, const struct names* names, napi_key_conversion conversion) {
  const JSValue array = JS_NewArray(ctx);
  for (uint32_t index = 0; index < names->count && !JS_IsException(array); index++) {
    const JSValue name = name_value(ctx, names->atoms[index], conversion);
    if (JS_DefinePropertyValueUint32(ctx, array, index, name, JS_PROP_C_W_E) >= 0) continue;
    JS_FreeValue(ctx, array);
    return JS_EXCEPTION;
  }
  return array;
}

napi_status napi_get_all_property_names(napi_env env, napi_value object, napi_key_collection_mode mode,
                                        napi_key_filter filter, napi_key_conversion conversion, napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, object);
  REQUIRE(env, result);
  JSContext* ctx = env->ctx;
  struct names seen = {0};
  struct names names = {0};
  JSValue link = object_from(env, value_of(object));
  EXPECT(env, !JS_IsException(link), napi_object_expected);
  bool good = true;
  while (good && JS_IsObject(link)) {
    good = collect(ctx, link, filter, &seen, &names);
    const JSValue next = good && mode == napi_key_include_prototypes ? JS_GetPrototype(ctx, link) : JS_NULL;
    JS_FreeValue(ctx, link);
    link = next;
  }
  good = good && !JS_IsException(link);
  JS_FreeValue(ctx, link);
  const JSValue array = good ? names_array(ctx, &names, conversion) : JS_EXCEPTION;
  release(ctx, &seen);
  release(ctx, &names);
  return env_return(env, array, result);
}

napi_status napi_get_property_names(napi_env env, napi_value object, napi_value* result) {
  return napi_get_all_property_names(env, object, napi_key_include_prototypes,
                                     napi_key_enumerable | napi_key_skip_symbols, napi_key_numbers_to_strings, result);
}
