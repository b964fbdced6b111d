// Objects, arrays, properties, classes.
#include "probe.h"

namespace {

// Status and outcome of each thing that can be done with a property.
napi_value Properties(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value object = call.args.at(0);
  napi_value key = call.args.at(1);
  bool has = false;
  bool own = false;
  bool deleted = false;
  napi_value got = nullptr;
  napi_value after = nullptr;
  std::vector<napi_value> list;
  list.push_back(Number(env, napi_has_property(env, object, key, &has)));
  list.push_back(Number(env, has));
  list.push_back(Number(env, napi_has_own_property(env, object, key, &own)));
  list.push_back(Number(env, own));
  list.push_back(Number(env, napi_get_property(env, object, key, &got)));
  list.push_back(got);
  list.push_back(Number(env, napi_set_property(env, object, key, Text(env, "set"))));
  list.push_back(Number(env, napi_get_property(env, object, key, &after)));
  list.push_back(after);
  list.push_back(Number(env, napi_delete_property(env, object, key, &deleted)));
  list.push_back(Number(env, deleted));
  return List(env, list);
}

napi_value Elements(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value array = call.args.at(0);
  uint32_t length = 0;
  bool has = false;
  bool deleted = false;
  napi_value got = nullptr;
  std::vector<napi_value> list;
  list.push_back(Number(env, napi_get_array_length(env, array, &length)));
  list.push_back(Number(env, length));
  list.push_back(Number(env, napi_set_element(env, array, 5, Text(env, "five"))));
  list.push_back(Number(env, napi_has_element(env, array, 3, &has)));
  list.push_back(Number(env, has));
  list.push_back(Number(env, napi_get_element(env, array, 5, &got)));
  list.push_back(got);
  list.push_back(Number(env, napi_delete_element(env, array, 0, &deleted)));
  list.push_back(Number(env, deleted));
  return List(env, list);
}

// (object, mode, filter, conversion)
napi_value Names(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value all = nullptr;
  napi_value plain = nullptr;
  napi_get_all_property_names(env, call.args.at(0), napi_key_collection_mode(int(ToNumber(env, call.args.at(1)))),
                              napi_key_filter(int(ToNumber(env, call.args.at(2)))),
                              napi_key_conversion(int(ToNumber(env, call.args.at(3)))), &all);
  napi_get_property_names(env, call.args[0], &plain);
  return List(env, {all, plain});
}

napi_value Method(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  return Text(env, static_cast<const char*>(data));
}

napi_value Get(napi_env env, napi_callback_info info) {
  napi_value value = nullptr;
  napi_get_named_property(env, Arguments(env, info).self, "_value", &value);
  return value;
}

napi_value Set(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_set_named_property(env, call.self, "_value", call.args.at(0));
  return nullptr;
}

// Defines one of each kind on an object.
napi_value Define(napi_env env, napi_callback_info info) {
  napi_value object = Arguments(env, info).args.at(0);
  static char said[] = "said";
  const napi_property_descriptor properties[] = {
      {"method", nullptr, Method, nullptr, nullptr, nullptr, napi_default_method, said},
      {"accessor", nullptr, nullptr, Get, Set, nullptr, napi_enumerable, nullptr},
      {"readOnly", nullptr, nullptr, Get, nullptr, nullptr, napi_default, nullptr},
      {"constant", nullptr, nullptr, nullptr, nullptr, Number(env, 4), napi_enumerable, nullptr},
      {nullptr, Text(env, "näme"), nullptr, nullptr, nullptr, Number(env, 5), napi_default_jsproperty, nullptr},
  };
  return Number(env, napi_define_properties(env, object, sizeof(properties) / sizeof(properties[0]), properties));
}

napi_value Construct(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value target = nullptr;
  napi_get_new_target(env, info, &target);
  if (target == nullptr) {
    napi_throw_type_error(env, "ERR_NEW", "needs new");
    return nullptr;
  }
  if (!call.args.empty()) napi_set_named_property(env, call.self, "_value", call.args[0]);
  return nullptr;
}

napi_value Class(napi_env env, napi_callback_info) {
  static char instance[] = "instance";
  static char fixed[] = "static";
  const napi_property_descriptor properties[] = {
      {"method", nullptr, Method, nullptr, nullptr, nullptr, napi_default_method, instance},
      {"make", nullptr, Method, nullptr, nullptr, nullptr,
       napi_property_attributes(napi_default_method | napi_static), fixed},
      {"value", nullptr, nullptr, Get, Set, nullptr, napi_default, nullptr},
  };
  napi_value made = nullptr;
  napi_define_class(env, "Probe", NAPI_AUTO_LENGTH, Construct, nullptr, 3, properties, &made);
  return made;
}

// (left, right) → [strictEquals, instanceof or its exception, prototype of left]
napi_value Compare(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  bool same = false;
  bool instance = false;
  napi_value error = nullptr;
  napi_value prototype = nullptr;
  napi_strict_equals(env, call.args.at(0), call.args.at(1), &same);
  const napi_status status = napi_instanceof(env, call.args[0], call.args[1], &instance);
  napi_get_and_clear_last_exception(env, &error);
  const napi_status of = napi_get_prototype(env, call.args[0], &prototype);
  return List(env, {Number(env, same), Number(env, status), Number(env, instance), error, Number(env, of), prototype});
}

napi_value Freeze(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  return List(env, {Number(env, napi_object_freeze(env, call.args.at(0))),
                    Number(env, napi_object_seal(env, call.args.at(1)))});
}

}  // namespace

void ExportObjects(napi_env env, napi_value exports) {
  Export(env, exports, "properties", Properties);
  Export(env, exports, "elements", Elements);
  Export(env, exports, "names", Names);
  Export(env, exports, "define", Define);
  Export(env, exports, "makeClass", Class);
  Export(env, exports, "compare", Compare);
  Export(env, exports, "freeze", Freeze);
}
