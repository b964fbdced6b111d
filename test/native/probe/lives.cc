// References, wraps, externals, finalizers, type tags, instance data: things that outlive a call.
#include "probe.h"

namespace {

napi_ref reference = nullptr;
int finalized = 0;
int secret = 42;

void Finalize(napi_env, void* data, void* hint) {
  finalized += *static_cast<int*>(data) == 42 ? 1 : 1000;
  if (hint != nullptr) finalized += 100;
}

// (value, count) → [status]
napi_value Refer(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  return Number(env, napi_create_reference(env, call.args.at(0), uint32_t(ToNumber(env, call.args.at(1))), &reference));
}

// [status, value or undefined when it has died]
napi_value Referred(napi_env env, napi_callback_info) {
  napi_value value = nullptr;
  const napi_status status = napi_get_reference_value(env, reference, &value);
  return List(env, {Number(env, status), value});
}

// (change) → [status, count]
napi_value Count(napi_env env, napi_callback_info info) {
  const bool up = ToNumber(env, Arguments(env, info).args.at(0)) > 0;
  uint32_t count = 99;
  const napi_status status =
      up ? napi_reference_ref(env, reference, &count) : napi_reference_unref(env, reference, &count);
  return List(env, {Number(env, status), Number(env, count)});
}

napi_value Unrefer(napi_env env, napi_callback_info) { return Number(env, napi_delete_reference(env, reference)); }

// [wrap, wrap again, unwrap, value, remove, value, unwrap after, wrap anew]
napi_value Wrap(napi_env env, napi_callback_info info) {
  napi_value object = Arguments(env, info).args.at(0);
  void* first = nullptr;
  void* removed = nullptr;
  void* after = nullptr;
  std::vector<napi_value> list;
  list.push_back(Number(env, napi_wrap(env, object, &secret, Finalize, &secret, nullptr)));
  list.push_back(Number(env, napi_wrap(env, object, &secret, Finalize, nullptr, nullptr)));
  list.push_back(Number(env, napi_unwrap(env, object, &first)));
  list.push_back(Number(env, first == &secret));
  list.push_back(Number(env, napi_remove_wrap(env, object, &removed)));
  list.push_back(Number(env, removed == &secret));
  list.push_back(Number(env, napi_unwrap(env, object, &after)));
  list.push_back(Number(env, napi_wrap(env, object, &secret, Finalize, nullptr, nullptr)));
  return List(env, list);
}

napi_value AddFinalizers(napi_env env, napi_callback_info info) {
  napi_value object = Arguments(env, info).args.at(0);
  return List(env, {Number(env, napi_add_finalizer(env, object, &secret, Finalize, nullptr, nullptr)),
                    Number(env, napi_add_finalizer(env, object, &secret, Finalize, nullptr, nullptr))});
}

napi_value Finalized(napi_env env, napi_callback_info) { return Number(env, finalized); }

napi_value External(napi_env env, napi_callback_info) {
  napi_value external = nullptr;
  napi_create_external(env, &secret, Finalize, nullptr, &external);
  return external;
}

// [status, whether it is ours]
napi_value OpenExternal(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  const napi_status status = napi_get_value_external(env, Arguments(env, info).args.at(0), &data);
  return List(env, {Number(env, status), Number(env, data == &secret)});
}

// Tags an object twice and asks for two tags.
napi_value Tag(napi_env env, napi_callback_info info) {
  const napi_type_tag mine = {1, 2};
  const napi_type_tag other = {1, 3};
  napi_value object = Arguments(env, info).args.at(0);
  bool is_mine = true;
  bool is_other = true;
  std::vector<napi_value> list;
  list.push_back(Number(env, napi_check_object_type_tag(env, object, &mine, &is_mine)));
  list.push_back(Number(env, is_mine));
  list.push_back(Number(env, napi_type_tag_object(env, object, &mine)));
  list.push_back(Number(env, napi_type_tag_object(env, object, &mine)));
  napi_check_object_type_tag(env, object, &mine, &is_mine);
  napi_check_object_type_tag(env, object, &other, &is_other);
  list.push_back(Number(env, is_mine));
  list.push_back(Number(env, is_other));
  return List(env, list);
}

napi_value Instance(napi_env env, napi_callback_info) {
  void* before = nullptr;
  void* after = nullptr;
  napi_get_instance_data(env, &before);
  napi_set_instance_data(env, &secret, nullptr, nullptr);
  napi_get_instance_data(env, &after);
  return List(env, {Number(env, before == nullptr), Number(env, after == &secret)});
}

}  // namespace

void ExportLives(napi_env env, napi_value exports) {
  Export(env, exports, "refer", Refer);
  Export(env, exports, "referred", Referred);
  Export(env, exports, "count", Count);
  Export(env, exports, "unrefer", Unrefer);
  Export(env, exports, "wrap", Wrap);
  Export(env, exports, "addFinalizers", AddFinalizers);
  Export(env, exports, "finalized", Finalized);
  Export(env, exports, "external", External);
  Export(env, exports, "openExternal", OpenExternal);
  Export(env, exports, "tag", Tag);
  Export(env, exports, "instance", Instance);
}
