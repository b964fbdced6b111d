// Calls both ways, exceptions, promises, handle scopes.
#include "probe.h"

namespace {

// Everything that a callback is told: [this, number of arguments, new.target, arguments …]
napi_value Echo(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value target = nullptr;
  napi_get_new_target(env, info, &target);
  std::vector<napi_value> list = {call.self, Number(env, double(call.args.size())), target};
  list.insert(list.end(), call.args.begin(), call.args.end());
  return List(env, list);
}

// More arguments asked for than there are.
napi_value Ask(napi_env env, napi_callback_info info) {
  napi_value args[4];
  size_t count = 4;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  return List(env, {Number(env, double(count)), args[0], args[1], args[2], args[3]});
}

// (this, function, …arguments) → [status, result, whether an exception was pending, the exception]
napi_value Invoke(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value result = nullptr;
  napi_value error = nullptr;
  bool pending = false;
  const napi_status status =
      napi_call_function(env, call.args.at(0), call.args.at(1), call.args.size() - 2, call.args.data() + 2, &result);
  napi_is_exception_pending(env, &pending);
  napi_value other = nullptr;
  const napi_status blocked = napi_call_function(env, call.args[0], call.args[1], 0, nullptr, &other);
  napi_get_and_clear_last_exception(env, &error);
  return List(env, {Number(env, status), result, Number(env, pending), Number(env, blocked), error});
}

napi_value Instantiate(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value result = nullptr;
  napi_value error = nullptr;
  const napi_status status =
      napi_new_instance(env, call.args.at(0), call.args.size() - 1, call.args.data() + 1, &result);
  napi_get_and_clear_last_exception(env, &error);
  return List(env, {Number(env, status), result, error});
}

// Leaves an exception of the kind asked for, and returns a value that must be ignored.
napi_value Throw(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  const int kind = int(ToNumber(env, call.args.at(0)));
  if (kind == 0) napi_throw_error(env, "E_CODE", "an error");
  if (kind == 1) napi_throw_type_error(env, nullptr, "a type error");
  if (kind == 2) napi_throw_range_error(env, "E_RANGE", "a range error");
  if (kind == 3) napi_throw(env, call.args.at(1));
  return Number(env, 1);
}

// Errors made, not thrown.
napi_value Errors(napi_env env, napi_callback_info) {
  napi_value list[4] = {};
  napi_create_error(env, Text(env, "E_ONE"), Text(env, "one"), &list[0]);
  napi_create_type_error(env, nullptr, Text(env, "two"), &list[1]);
  napi_create_range_error(env, Text(env, "E_THREE"), Text(env, "three"), &list[2]);
  const napi_status status = napi_create_error(env, Number(env, 1), Text(env, "four"), &list[3]);
  return List(env, {list[0], list[1], list[2], Number(env, status)});
}

napi_deferred deferred = nullptr;

napi_value Promise(napi_env env, napi_callback_info) {
  napi_value promise = nullptr;
  napi_create_promise(env, &deferred, &promise);
  return promise;
}

// (reject?, value)
napi_value Settle(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  const bool rejects = ToNumber(env, call.args.at(0)) != 0;
  return Number(env, rejects ? napi_reject_deferred(env, deferred, call.args.at(1))
                             : napi_resolve_deferred(env, deferred, call.args.at(1)));
}

// Many handles in scopes, one escaping from each: [sum, status of a second escape, deep value]
napi_value Scopes(napi_env env, napi_callback_info) {
  double sum = 0;
  napi_status second = napi_ok;
  napi_value kept = Text(env, "kept");
  for (int round = 0; round < 2000; round++) {
    napi_escapable_handle_scope scope = nullptr;
    napi_open_escapable_handle_scope(env, &scope);
    napi_value last = nullptr;
    for (int index = 0; index < 100; index++) {
      napi_handle_scope inner = nullptr;
      napi_open_handle_scope(env, &inner);
      for (int handle = 0; handle < 3; handle++) Number(env, handle);
      napi_close_handle_scope(env, inner);
      last = Number(env, round);
    }
    napi_value out = nullptr;
    napi_value again = nullptr;
    napi_escape_handle(env, scope, last, &out);
    second = napi_escape_handle(env, scope, last, &again);
    napi_close_escapable_handle_scope(env, scope);
    sum += ToNumber(env, out);
  }
  return List(env, {Number(env, sum), Number(env, second), kept});
}

// Handles beyond one scope's worth stay valid.
napi_value ManyHandles(napi_env env, napi_callback_info) {
  std::vector<napi_value> handles;
  for (int index = 0; index < 5000; index++) handles.push_back(Number(env, index + 0.5));
  double sum = 0;
  for (napi_value handle : handles) sum += ToNumber(env, handle);
  return Number(env, sum);
}

}  // namespace

void ExportFunctions(napi_env env, napi_value exports) {
  Export(env, exports, "echo", Echo);
  Export(env, exports, "ask", Ask);
  Export(env, exports, "invoke", Invoke);
  Export(env, exports, "instantiate", Instantiate);
  Export(env, exports, "throwKind", Throw);
  Export(env, exports, "errors", Errors);
  Export(env, exports, "promise", Promise);
  Export(env, exports, "settle", Settle);
  Export(env, exports, "scopes", Scopes);
  Export(env, exports, "manyHandles", ManyHandles);
}
