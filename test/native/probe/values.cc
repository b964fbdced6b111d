// Primitive values, strings, BigInts, dates.
#include <cstring>
#include <string>

#include "probe.h"

namespace {

// [type, isArray, isBuffer, isTypedArray, isArrayBuffer, isDataView, isPromise, isDate, isError]
napi_value Kind(napi_env env, napi_callback_info info) {
  napi_value value = Arguments(env, info).args.at(0);
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  std::vector<napi_value> list = {Number(env, type)};
  using Test = napi_status (*)(napi_env, napi_value, bool*);
  const Test tests[] = {napi_is_array,    napi_is_buffer,  napi_is_typedarray, napi_is_arraybuffer,
                        napi_is_dataview, napi_is_promise, napi_is_date,       napi_is_error};
  for (const Test test : tests) {
    bool is = false;
    const napi_status status = test(env, value, &is);
    list.push_back(Number(env, status == napi_ok ? is : -1));
  }
  return List(env, list);
}

// Status and result of each way to read a number.
napi_value Numbers(napi_env env, napi_callback_info info) {
  napi_value value = Arguments(env, info).args.at(0);
  int32_t i32 = -7;
  uint32_t u32 = 7;
  int64_t i64 = -7;
  double d = -7;
  bool b = false;
  const double statuses[] = {
      double(napi_get_value_int32(env, value, &i32)), double(napi_get_value_uint32(env, value, &u32)),
      double(napi_get_value_int64(env, value, &i64)), double(napi_get_value_double(env, value, &d)),
      double(napi_get_value_bool(env, value, &b)),
  };
  std::vector<napi_value> list;
  for (const double status : statuses) list.push_back(Number(env, status));
  napi_value wide = nullptr;
  napi_create_int64(env, i64, &wide);
  for (const double number : {double(i32), double(u32), d, double(b)}) list.push_back(Number(env, number));
  list.push_back(wide);
  return List(env, list);
}

// Reads a BigInt as 64 bits and as words, and makes it again from the words: [statuses and values …, copy]
napi_value BigInts(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  napi_value value = call.args.at(0);
  int64_t i64 = 0;
  uint64_t u64 = 0;
  bool i_lossless = false;
  bool u_lossless = false;
  const napi_status i_status = napi_get_value_bigint_int64(env, value, &i64, &i_lossless);
  const napi_status u_status = napi_get_value_bigint_uint64(env, value, &u64, &u_lossless);
  napi_value i_copy = nullptr;
  napi_value u_copy = nullptr;
  napi_create_bigint_int64(env, i64, &i_copy);
  napi_create_bigint_uint64(env, u64, &u_copy);
  size_t count = 0;
  const napi_status size_status = napi_get_value_bigint_words(env, value, nullptr, &count, nullptr);
  std::vector<uint64_t> words(count + 1);
  int sign = 0;
  size_t room = words.size();
  const napi_status words_status = napi_get_value_bigint_words(env, value, &sign, &room, words.data());
  napi_value copy = nullptr;
  napi_create_bigint_words(env, sign, count, words.data(), &copy);
  return List(env, {Number(env, i_status), i_copy, Number(env, i_lossless), Number(env, u_status), u_copy,
                    Number(env, u_lossless), Number(env, size_status), Number(env, count),
                    Number(env, words_status), Number(env, sign), Number(env, room), copy});
}

// (text, size) → status, length and bytes in each encoding; a size below 0 asks for the length only.
napi_value ReadText(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  const double size = ToNumber(env, call.args.at(1));
  std::vector<napi_value> list;
  std::vector<char> narrow(64, '#');
  std::vector<char16_t> wide(64, u'#');
  for (int encoding = 0; encoding < 3; encoding++) {
    size_t length = 777;
    const bool asks = size < 0;
    const size_t room = asks ? 0 : static_cast<size_t>(size);
    napi_status status = napi_generic_failure;
    std::fill(narrow.begin(), narrow.end(), '#');
    if (encoding == 0) {
      status = napi_get_value_string_utf8(env, call.args[0], asks ? nullptr : narrow.data(), room, &length);
    } else if (encoding == 1) {
      status = napi_get_value_string_latin1(env, call.args[0], asks ? nullptr : narrow.data(), room, &length);
    } else {
      status = napi_get_value_string_utf16(env, call.args[0], asks ? nullptr : wide.data(), room, &length);
    }
    list.push_back(Number(env, status));
    list.push_back(Number(env, length));
    std::string hex;
    for (size_t index = 0; index < 20; index++) {
      const unsigned unit = encoding == 2 ? wide[index] : static_cast<unsigned char>(narrow[index]);
      char digits[8];
      snprintf(digits, sizeof(digits), "%x ", unit);
      hex += digits;
    }
    list.push_back(Text(env, hex.c_str()));
  }
  return List(env, list);
}

// Strings from the bytes of a Uint8Array: as UTF-8, Latin-1, and UTF-16 (two bytes a unit).
napi_value MakeText(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  void* data = nullptr;
  size_t length = 0;
  napi_get_buffer_info(env, call.args.at(0), &data, &length);
  napi_value utf8 = nullptr;
  napi_value latin1 = nullptr;
  napi_value utf16 = nullptr;
  std::vector<char16_t> units(length / 2 + 1);
  if (length > 0) memcpy(units.data(), data, length / 2 * 2);
  napi_create_string_utf8(env, static_cast<char*>(data), length, &utf8);
  napi_create_string_latin1(env, static_cast<char*>(data), length, &latin1);
  napi_create_string_utf16(env, units.data(), length / 2, &utf16);
  return List(env, {utf8, latin1, utf16});
}

// Status and result of each coercion; a pending exception is cleared and listed.
napi_value Coerce(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  using Coercion = napi_status (*)(napi_env, napi_value, napi_value*);
  std::vector<napi_value> list;
  for (const Coercion coerce : {napi_coerce_to_bool, napi_coerce_to_number, napi_coerce_to_string}) {
    napi_value result = nullptr;
    list.push_back(Number(env, coerce(env, call.args.at(0), &result)));
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    if (pending) napi_get_and_clear_last_exception(env, &result);
    list.push_back(result);
  }
  return List(env, list);
}

napi_value Dates(napi_env env, napi_callback_info info) {
  const Call call = Arguments(env, info);
  double time = 0;
  const napi_status status = napi_get_date_value(env, call.args.at(0), &time);
  napi_value made = nullptr;
  napi_create_date(env, time + 1000, &made);
  return List(env, {Number(env, status), Number(env, time), made});
}

// Calls with arguments that are missing, and what the last error says then.
napi_value Mistakes(napi_env env, napi_callback_info) {
  std::vector<napi_value> list;
  const auto note = [&](napi_status status) {
    const napi_extended_error_info* error = nullptr;
    napi_get_last_error_info(env, &error);
    const char* message = error->error_message;
    list.push_back(message ? Text(env, message) : nullptr);
    list.push_back(Number(env, status));
  };
  double number = 0;
  note(napi_create_double(env, 1, nullptr));
  note(napi_get_value_double(env, nullptr, &number));
  note(napi_get_value_double(env, Text(env, "1"), &number));
  note(napi_get_array_length(env, Number(env, 1), nullptr));
  note(napi_set_named_property(env, Number(env, 1), "x", Number(env, 1)));
  note(napi_call_function(env, Undefined(env), Number(env, 1), 0, nullptr, nullptr));
  note(napi_create_symbol(env, Number(env, 1), &list.emplace_back()));
  note(napi_ok);
  return List(env, list);
}

}  // namespace

void ExportValues(napi_env env, napi_value exports) {
  Export(env, exports, "kind", Kind);
  Export(env, exports, "numbers", Numbers);
  Export(env, exports, "bigInts", BigInts);
  Export(env, exports, "readText", ReadText);
  Export(env, exports, "makeText", MakeText);
  Export(env, exports, "coerce", Coerce);
  Export(env, exports, "dates", Dates);
  Export(env, exports, "mistakes", Mistakes);
}
