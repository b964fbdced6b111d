// ArrayBuffers, typed arrays, DataViews and Buffers; a Buffer is a Uint8Array here.
#include <stdio.h>
#include <stdlib.h>

#include "node_api.h"

// How QuickJS numbers the kinds of typed array, by how Node-API does.
static const struct {
  JSTypedArrayEnum kind;
  size_t element;  // Bytes.
  const char* name;
} kinds[] = {
    [napi_int8_array] = {JS_TYPED_ARRAY_INT8, 1, "Int8Array"},
    [napi_uint8_array] = {JS_TYPED_ARRAY_UINT8, 1, "Uint8Array"},
    [napi_uint8_clamped_array] = {JS_TYPED_ARRAY_UINT8C, 1, "Uint8ClampedArray"},
    [napi_int16_array] = {JS_TYPED_ARRAY_INT16, 2, "Int16Array"},
    [napi_uint16_array] = {JS_TYPED_ARRAY_UINT16, 2, "Uint16Array"},
    [napi_int32_array] = {JS_TYPED_ARRAY_INT32, 4, "Int32Array"},
    [napi_uint32_array] = {JS_TYPED_ARRAY_UINT32, 4, "Uint32Array"},
    [napi_float32_array] = {JS_TYPED_ARRAY_FLOAT32, 4, "Float32Array"},
    [napi_float64_array] = {JS_TYPED_ARRAY_FLOAT64, 8, "Float64Array"},
    [napi_bigint64_array] = {JS_TYPED_ARRAY_BIG_INT64, 8, "BigInt64Array"},
    [napi_biguint64_array] = {JS_TYPED_ARRAY_BIG_UINT64, 8, "BigUint64Array"},
};

static bool is_array_buffer(napi_env env, JSValueConst value) {
  return JS_GetClassID(value) == env->classes.array_buffer;
}

static bool is_typed_array(napi_env env, JSValueConst value) {
  const JSClassID first = env->classes.first_typed_array;
  const JSClassID id = JS_GetClassID(value);
  return id >= first && id <= first + JS_TYPED_ARRAY_FLOAT64;
}

static bool is_data_view(napi_env env, JSValueConst value) { return JS_GetClassID(value) == env->classes.data_view; }

static bool is_view(napi_env env, JSValueConst value) { return is_typed_array(env, value) || is_data_view(env, value); }

napi_status napi_is_arraybuffer(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = is_array_buffer(env, value_of(value));
  return env_status(env, napi_ok);
}

napi_status napi_is_typedarray(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = is_typed_array(env, value_of(value));
  return env_status(env, napi_ok);
}

napi_status napi_is_dataview(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = is_data_view(env, value_of(value));
  return env_status(env, napi_ok);
}

// As in Node, any view passes for a Buffer.
napi_status napi_is_buffer(napi_env env, napi_value value, bool* result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = is_view(env, value_of(value));
  return env_status(env, napi_ok);
}

// ---- ArrayBuffer --------------------------------------------------------------------------------------------

static void free_owned(JSRuntime* runtime, void* unused, void* data) {
  (void)unused;
  js_free_rt(runtime, data);
}

static void free_external(JSRuntime* runtime, void* finalizer, void* data) {
  (void)runtime, (void)data;
  if (finalizer != NULL) finalizer_queue(finalizer);
}

// A buffer of zeros. `data` is where they are.
static JSValue buffer_new(napi_env env, size_t length, void** data) {
  *data = js_mallocz(env->ctx, length == 0 ? 1 : length);
  if (*data == NULL) return JS_EXCEPTION;
  const JSValue buffer = JS_NewArrayBuffer(env->ctx, *data, length, free_owned, NULL, 0);
  if (JS_IsException(buffer)) js_free(env->ctx, *data);
  return buffer;
}

napi_status napi_create_arraybuffer(napi_env env, size_t length, void** data, napi_value* result) {
  void* start;
  MAY_RUN_JS(env);
  REQUIRE(env, result);
  const JSValue buffer = buffer_new(env, length, &start);
  if (data != NULL) *data = start;
  return env_return(env, buffer, result);
}

napi_status napi_create_external_arraybuffer(napi_env env, void* data, size_t length,
                                             node_api_basic_finalize finalize, void* hint, napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, result);
  struct finalizer* finalizer = NULL;
  if (finalize != NULL) {
    finalizer = malloc(sizeof(*finalizer));
    EXPECT(env, finalizer != NULL, napi_generic_failure);
    *finalizer = (struct finalizer){NULL, finalize, data, hint};
  }
  const JSValue buffer = JS_NewArrayBuffer(env->ctx, data, length, free_external, finalizer, 0);
  if (JS_IsException(buffer)) free(finalizer);
  return env_return(env, buffer, result);
}

// The bytes of an ArrayBuffer; none, and no exception, of a detached one.
static void buffer_bytes(napi_env env, JSValueConst buffer, uint8_t** data, size_t* length) {
  *data = JS_GetArrayBuffer(env->ctx, length, buffer);
  if (JS_HasException(env->ctx)) JS_FreeValue(env->ctx, JS_GetException(env->ctx));
}

napi_status napi_get_arraybuffer_info(napi_env env, napi_value buffer, void** data, size_t* length) {
  uint8_t* start;
  size_t size;
  REQUIRE(env, buffer);
  EXPECT(env, is_array_buffer(env, value_of(buffer)), napi_invalid_arg);
  buffer_bytes(env, value_of(buffer), &start, &size);
  if (data != NULL) *data = start;
  if (length != NULL) *length = size;
  return env_status(env, napi_ok);
}

napi_status napi_detach_arraybuffer(napi_env env, napi_value buffer) {
  REQUIRE(env, buffer);
  EXPECT(env, JS_IsObject(value_of(buffer)), napi_object_expected);
  EXPECT(env, is_array_buffer(env, value_of(buffer)), napi_arraybuffer_expected);
  JS_DetachArrayBuffer(env->ctx, value_of(buffer));
  return env_status(env, napi_ok);
}

napi_status napi_is_detached_arraybuffer(napi_env env, napi_value value, bool* result) {
  size_t length;
  REQUIRE(env, value);
  REQUIRE(env, result);
  *result = false;
  if (!is_array_buffer(env, value_of(value))) return env_status(env, napi_ok);
  // An empty buffer has no bytes either; only the detached one makes QuickJS throw.
  *result = JS_GetArrayBuffer(env->ctx, &length, value_of(value)) == NULL && JS_HasException(env->ctx);
  if (*result) JS_FreeValue(env->ctx, JS_GetException(env->ctx));
  return env_status(env, napi_ok);
}

// ---- views --------------------------------------------------------------------------------------------------

static JSValue view_new(napi_env env, JSTypedArrayEnum kind, JSValueConst buffer, size_t offset, size_t length) {
  JSValueConst arguments[] = {buffer, JS_NewInt64(env->ctx, (int64_t)offset), JS_NewInt64(env->ctx, (int64_t)length)};
  return JS_NewTypedArray(env->ctx, ENGINE_COUNT(arguments), arguments, kind);
}

static napi_status throw_range(napi_env env, const char* code, const char* message, napi_status status) {
  napi_throw_range_error(env, code, message);
  return env_status(env, status);
}

napi_status napi_create_typedarray(napi_env env, napi_typedarray_type type, size_t length, napi_value buffer,
                                   size_t offset, napi_value* result) {
  uint8_t* data;
  size_t size;
  char message[80];
  MAY_RUN_JS(env);
  REQUIRE(env, buffer);
  REQUIRE(env, result);
  EXPECT(env, is_array_buffer(env, value_of(buffer)), napi_invalid_arg);
  EXPECT(env, (size_t)type < ENGINE_COUNT(kinds), napi_invalid_arg);
  const size_t element = kinds[type].element;
  if (offset % element != 0) {
    snprintf(message, sizeof(message), "start offset of %s should be a multiple of %zu", kinds[type].name, element);
    return throw_range(env, "ERR_NAPI_INVALID_TYPEDARRAY_ALIGNMENT", message, napi_generic_failure);
  }
  buffer_bytes(env, value_of(buffer), &data, &size);
  if (offset > size || length > (size - offset) / element) {
    return throw_range(env, "ERR_NAPI_INVALID_TYPEDARRAY_LENGTH", "Invalid typed array length", napi_generic_failure);
  }
  return env_return(env, view_new(env, kinds[type].kind, value_of(buffer), offset, length), result);
}

napi_status napi_create_dataview(napi_env env, size_t length, napi_value buffer, size_t offset, napi_value* result) {
  uint8_t* data;
  size_t size;
  MAY_RUN_JS(env);
  REQUIRE(env, buffer);
  REQUIRE(env, result);
  EXPECT(env, is_array_buffer(env, value_of(buffer)), napi_invalid_arg);
  buffer_bytes(env, value_of(buffer), &data, &size);
  if (offset > size || length > size - offset) {
    return throw_range(env, "ERR_NAPI_INVALID_DATAVIEW_ARGS",
                       "byte_offset + byte_length should be less than or equal to the size in bytes of the array "
                       "passed in",
                       napi_pending_exception);
  }
  JSContext* ctx = env->ctx;
  JSValueConst arguments[] = {value_of(buffer), JS_NewInt64(ctx, (int64_t)offset), JS_NewInt64(ctx, (int64_t)length)};
  const JSValue constructor = env->intrinsics[INTRINSIC_DATA_VIEW];
  return env_return(env, JS_CallConstructor(ctx, constructor, ENGINE_COUNT(arguments), arguments), result);
}

// Where a view lies. All zero, and no owner, when its buffer is detached.
struct view {
  uint8_t* data;
  size_t length;  // Bytes.
  size_t offset;
  JSValue owner;
};

static void find_view(napi_env env, JSValueConst value, struct view* view) {
  *view = (struct view){NULL, 0, 0, JS_UNDEFINED};
  if (!bytes_get(env->ctx, value, &view->data, &view->length, &view->owner)) {
    JS_FreeValue(env->ctx, JS_GetException(env->ctx));
    *view = (struct view){NULL, 0, 0, JS_GetPropertyStr(env->ctx, value, "buffer")};
    return;
  }
  uint8_t* start;
  size_t size;
  buffer_bytes(env, view->owner, &start, &size);
  view->offset = (size_t)(view->data - start);
}

// Gives the owner's reference to a handle, if one is wanted.
static napi_status return_owner(napi_env env, struct view* view, napi_value* buffer) {
  if (buffer != NULL) return env_return(env, view->owner, buffer);
  JS_FreeValue(env->ctx, view->owner);
  return env_status(env, napi_ok);
}

napi_status napi_get_typedarray_info(napi_env env, napi_value value, napi_typedarray_type* type, size_t* length,
                                     void** data, napi_value* buffer, size_t* offset) {
  REQUIRE(env, value);
  EXPECT(env, is_typed_array(env, value_of(value)), napi_invalid_arg);
  const JSTypedArrayEnum kind = JS_GetClassID(value_of(value)) - env->classes.first_typed_array;
  napi_typedarray_type found = napi_int8_array;
  while (kinds[found].kind != kind) found++;
  struct view view;
  find_view(env, value_of(value), &view);
  if (type != NULL) *type = found;
  if (length != NULL) *length = view.length / kinds[found].element;
  if (data != NULL) *data = view.data;
  if (offset != NULL) *offset = view.offset;
  return return_owner(env, &view, buffer);
}

napi_status napi_get_dataview_info(napi_env env, napi_value value, size_t* length, void** data, napi_value* buffer,
                                   size_t* offset) {
  REQUIRE(env, value);
  EXPECT(env, is_data_view(env, value_of(value)), napi_invalid_arg);
  struct view view;
  find_view(env, value_of(value), &view);
  if (length != NULL) *length = view.length;
  if (data != NULL) *data = view.data;
  if (offset != NULL) *offset = view.offset;
  return return_owner(env, &view, buffer);
}

// ---- Buffer -------------------------------------------------------------------------------------------------

// A Uint8Array over the whole of `buffer`, which is taken over.
static napi_status return_bytes(napi_env env, JSValue buffer, size_t length, napi_value* result) {
  if (JS_IsException(buffer)) return env_caught(env);
  const JSValue array = view_new(env, JS_TYPED_ARRAY_UINT8, buffer, 0, length);
  JS_FreeValue(env->ctx, buffer);
  return env_return(env, array, result);
}

napi_status napi_create_buffer(napi_env env, size_t length, void** data, napi_value* result) {
  void* start;
  MAY_RUN_JS(env);
  REQUIRE(env, result);
  const JSValue buffer = buffer_new(env, length, &start);
  if (data != NULL) *data = start;
  return return_bytes(env, buffer, length, result);
}

napi_status napi_create_buffer_copy(napi_env env, size_t length, const void* data, void** copy, napi_value* result) {
  size_t size;
  MAY_RUN_JS(env);
  REQUIRE(env, result);
  const JSValue buffer = JS_NewArrayBufferCopy(env->ctx, data, length);
  if (copy != NULL && !JS_IsException(buffer)) *copy = JS_GetArrayBuffer(env->ctx, &size, buffer);
  return return_bytes(env, buffer, length, result);
}

napi_status napi_create_external_buffer(napi_env env, size_t length, void* data, node_api_basic_finalize finalize,
                                        void* hint, napi_value* result) {
  napi_value buffer;
  const napi_status status = napi_create_external_arraybuffer(env, data, length, finalize, hint, &buffer);
  if (status != napi_ok) return status;
  return return_bytes(env, JS_DupValue(env->ctx, value_of(buffer)), length, result);
}

napi_status napi_get_buffer_info(napi_env env, napi_value value, void** data, size_t* length) {
  REQUIRE(env, value);
  EXPECT(env, is_view(env, value_of(value)), napi_invalid_arg);
  struct view view;
  find_view(env, value_of(value), &view);
  if (data != NULL) *data = view.data;
  if (length != NULL) *length = view.length;
  return return_owner(env, &view, NULL);
}
