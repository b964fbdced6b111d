// Buffers and the views of them.
#include <cstring>

#include "probe.h"

namespace {

int freed = 0;
char shared_bytes[] = "0123456789abcdef";

void Free(napi_env, void* data, void*) { freed += data == shared_bytes ? 1 : 1000; }

// A Buffer of zeros with one byte set, a copy, and one over memory of ours.
napi_value MakeBuffers(napi_env env, napi_callback_info info) {
  const double size = ToNumber(env, Arguments(env, info).args.at(0));
  void* data = nullptr;
  void* copied = nullptr;
  napi_value made = nullptr;
  napi_value copy = nullptr;
  napi_value array_buffer = nullptr;
  void* array_data = nullptr;
  napi_create_buffer(env, size_t(size), &data, &made);
  if (size > 0) memset(data, 7, size_t(size));
  napi_create_buffer_copy(env, 4, "abcd", &copied, &copy);
  static_cast<char*>(copied)[0] = 'X';
  napi_create_arraybuffer(env, size_t(size), &array_data, &array_buffer);
  bool zero = true;
  for (size_t index = 0; index < size_t(size); index++) zero &= static_cast<char*>(array_data)[index] == 0;
  return List(env, {made, copy, array_buffer, Number(env, zero)});
}

napi_value ExternalBuffer(napi_env env, napi_callback_info) {
  napi_value buffer = nullptr;
  napi_create_external_buffer(env, 16, shared_bytes, Free, nullptr, &buffer);
  return buffer;
}

napi_value Freed(napi_env env, napi_callback_info) { return Number(env, freed); }

// (type, length, buffer, offset) → [status, array, exception]
napi_value MakeTyped(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value array = nullptr;
  napi_value error = nullptr;
  const napi_status status = napi_create_typedarray(
      env, napi_typedarray_type(int(ToNumber(env, call.args.at(0)))), size_t(ToNumber(env, call.args.at(1))),
      call.args.at(2), size_t(ToNumber(env, call.args.at(3))), &array);
  napi_get_and_clear_last_exception(env, &error);
  return List(env, {Number(env, status), array, error});
}

napi_value TypedInfo(napi_env env, napi_callback_info info) {
  napi_typedarray_type type = napi_uint8_array;
  size_t length = 0;
  size_t offset = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  napi_value array = Arguments(env, info).args.at(0);
  const napi_status status = napi_get_typedarray_info(env, array, &type, &length, &data, &buffer, &offset);
  const bool reads = status == napi_ok && length > 0;
  return List(env, {Number(env, status), Number(env, type), Number(env, double(length)), Number(env, double(offset)),
                    buffer, Number(env, reads ? *static_cast<unsigned char*>(data) : -1)});
}

// (length, buffer, offset) → [status, view, exception, what is known of it]
napi_value Views(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value view = nullptr;
  napi_value error = nullptr;
  const napi_status status = napi_create_dataview(env, size_t(ToNumber(env, call.args.at(0))), call.args.at(1),
                                                  size_t(ToNumber(env, call.args.at(2))), &view);
  napi_get_and_clear_last_exception(env, &error);
  if (view == nullptr) return List(env, {Number(env, status), error});
  size_t length = 0;
  size_t offset = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  napi_get_dataview_info(env, view, &length, &data, &buffer, &offset);
  return List(env, {Number(env, status), view, Number(env, double(length)), Number(env, double(offset)), buffer});
}

// [status, length, first byte] as a Buffer
napi_value BufferInfo(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t length = 0;
  const napi_status status = napi_get_buffer_info(env, Arguments(env, info).args.at(0), &data, &length);
  const bool reads = status == napi_ok && length > 0;
  return List(env, {Number(env, status), Number(env, double(length)),
                    Number(env, reads ? *static_cast<unsigned char*>(data) : -1)});
}

// [detached before, status, detached after, length after, detached for something else]
napi_value Detach(napi_env env, napi_callback_info info) {
  napi_value buffer = Arguments(env, info).args.at(0);
  bool before = true;
  bool after = false;
  bool other = true;
  void* data = nullptr;
  size_t length = 99;
  napi_is_detached_arraybuffer(env, buffer, &before);
  const napi_status status = napi_detach_arraybuffer(env, buffer);
  napi_is_detached_arraybuffer(env, buffer, &after);
  napi_get_arraybuffer_info(env, buffer, &data, &length);
  napi_is_detached_arraybuffer(env, Number(env, 1), &other);
  return List(env, {Number(env, before), Number(env, status), Number(env, after), Number(env, double(length)),
                    Number(env, other)});
}

}  // namespace

void ExportBuffers(napi_env env, napi_value exports) {
  Export(env, exports, "makeBuffers", MakeBuffers);
  Export(env, exports, "externalBuffer", ExternalBuffer);
  Export(env, exports, "freed", Freed);
  Export(env, exports, "makeTyped", MakeTyped);
  Export(env, exports, "typedInfo", TypedInfo);
  Export(env, exports, "views", Views);
  Export(env, exports, "bufferInfo", BufferInfo);
  Export(env, exports, "detach", Detach);
}
