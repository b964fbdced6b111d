// Byte buffers of JS: what WebIDL calls a BufferSource.
#include "engine.h"

// The view's `buffer`, `byteOffset` and `byteLength`: the way to a DataView, for which QuickJS has no C function.
static bool view_get(JSContext* ctx, JSValueConst view, uint8_t** data, size_t* length, JSValue* owner) {
  int64_t offset = 0;
  int64_t size = 0;
  const JSValue js_offset = JS_GetPropertyStr(ctx, view, "byteOffset");
  const JSValue js_size = JS_GetPropertyStr(ctx, view, "byteLength");
  const bool failed = JS_IsException(js_offset) || JS_IsException(js_size) ||
                      JS_ToInt64(ctx, &offset, js_offset) < 0 || JS_ToInt64(ctx, &size, js_size) < 0;
  JS_FreeValue(ctx, js_offset);
  JS_FreeValue(ctx, js_size);
  if (failed) return false;
  *owner = JS_GetPropertyStr(ctx, view, "buffer");
  if (JS_IsException(*owner)) return false;
  size_t whole = 0;
  uint8_t* start = JS_GetArrayBuffer(ctx, &whole, *owner);
  if (start == NULL && whole == 0 && JS_HasException(ctx)) goto fail;
  // An object that only looks like a view could claim anything.
  if (offset < 0 || size < 0 || (uint64_t)offset + (uint64_t)size > whole) {
    JS_ThrowTypeError(ctx, "view outside its buffer");
    goto fail;
  }
  *data = start + offset;
  *length = (size_t)size;
  return true;

fail:
  JS_FreeValue(ctx, *owner);
  *owner = JS_UNDEFINED;
  return false;
}

bool bytes_get(JSContext* ctx, JSValueConst value, uint8_t** data, size_t* length, JSValue* owner) {
  *owner = JS_UNDEFINED;
  if (!JS_IsObject(value)) {
    JS_ThrowTypeError(ctx, "not an ArrayBuffer or a view of one");
    return false;
  }
  size_t offset = 0;
  JSValue buffer = JS_GetTypedArrayBuffer(ctx, value, &offset, length, NULL);
  if (!JS_IsException(buffer)) {
    size_t whole = 0;
    *data = JS_GetArrayBuffer(ctx, &whole, buffer) + offset;
    *owner = buffer;
    return true;
  }
  JS_FreeValue(ctx, JS_GetException(ctx));
  *data = JS_GetArrayBuffer(ctx, length, value);
  if (!JS_HasException(ctx)) {
    *owner = JS_DupValue(ctx, value);
    return true;
  }
  JS_FreeValue(ctx, JS_GetException(ctx));
  return view_get(ctx, value, data, length, owner);
}

JSValue bytes_new(JSContext* ctx, const uint8_t* data, size_t length) {
  const JSValue buffer = JS_NewArrayBufferCopy(ctx, data, length);
  if (JS_IsException(buffer)) return buffer;
  // All three arguments: QuickJS reads them unasked.
  JSValueConst arguments[] = {buffer, JS_UNDEFINED, JS_UNDEFINED};
  const JSValue array = JS_NewTypedArray(ctx, ENGINE_COUNT(arguments), arguments, JS_TYPED_ARRAY_UINT8);
  JS_FreeValue(ctx, buffer);
  return array;
}
