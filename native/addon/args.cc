#include "args.h"

#include <math.h>
#include <string.h>

#include "name.h"
#include "value.h"

namespace yavm {

void Args::Reject(const char* name, const std::string& expected) {
  if (!ok_) return;
  ok_ = false;
  const std::string message = std::string(call_) + ": " + name + " must be " + expected;
  napi_value error = nullptr;
  napi_create_type_error(env_, nullptr, MakeText(env_, message), &error);
  SetText(env_, error, "code", "ERR_INVALID_ARG_TYPE");
  napi_throw(env_, error);
}

napi_valuetype Args::TypeOf(napi_value value) {
  napi_valuetype type = napi_undefined;
  if (value) napi_typeof(env_, value, &type);
  return type;
}

double Args::Number(size_t index, const char* name) {
  if (!ok_) return 0;
  double number = 0;
  if (TypeOf(At(index)) == napi_number) napi_get_value_double(env_, At(index), &number);
  if (TypeOf(At(index)) != napi_number || !isfinite(number)) {
    Reject(name, "a finite number");
    return 0;
  }
  return number;
}

int64_t Args::IntegerOf(napi_value value, const char* name, int64_t least, int64_t most) {
  if (!ok_) return least;
  double number = NAN;
  if (TypeOf(value) == napi_number) napi_get_value_double(env_, value, &number);
  const bool whole = isfinite(number) && floor(number) == number;
  if (!whole || number < static_cast<double>(least) || number > static_cast<double>(most)) {
    Reject(name, "an integer from " + std::to_string(least) + " to " + std::to_string(most));
    return least;
  }
  return static_cast<int64_t>(number);
}

bool Args::FlagOf(napi_value value, const char* name) {
  if (!ok_) return false;
  bool flag = false;
  if (TypeOf(value) != napi_boolean) {
    Reject(name, "a boolean");
    return false;
  }
  napi_get_value_bool(env_, value, &flag);
  return flag;
}

std::string Args::TextOf(napi_value value, const char* name, size_t longest) {
  std::string text;
  if (!ok_) return text;
  size_t length = 0;
  if (TypeOf(value) != napi_string || napi_get_value_string_utf8(env_, value, nullptr, 0, &length) != napi_ok ||
      length > longest) {
    Reject(name, "a string of at most " + std::to_string(longest) + " bytes");
    return text;
  }
  // Node-API writes the terminating NUL too, into the byte that std::string keeps for it.
  text.resize(length);
  napi_get_value_string_utf8(env_, value, &text[0], length + 1, &length);
  text.resize(length);
  if (MayBeEscaped(text)) NameBytes(env_, value, &text);
  if (memchr(text.data(), 0, text.size())) {
    Reject(name, "a string without a NUL character");
    text.clear();
  }
  return text;
}

bool Args::TextOrNull(size_t index, const char* name, std::string* out, size_t longest) {
  const napi_valuetype type = TypeOf(At(index));
  if (type == napi_null || type == napi_undefined) return false;
  *out = TextOf(At(index), name, longest);
  return ok_;
}

Bytes Args::Buffer(size_t index, const char* name) {
  Bytes bytes;
  if (!ok_) return bytes;
  bool typed = false;
  napi_value value = At(index);
  if (TypeOf(value) == napi_object) napi_is_typedarray(env_, value, &typed);
  napi_typedarray_type type = napi_int8_array;
  void* data = nullptr;
  napi_value buffer = nullptr;
  size_t offset = 0;
  if (typed) napi_get_typedarray_info(env_, value, &type, &bytes.size, &data, &buffer, &offset);
  if (!typed || type != napi_uint8_array) {
    Reject(name, "a Uint8Array");
    return Bytes();
  }
  bytes.data = static_cast<uint8_t*>(data);
  return bytes;
}

napi_value Args::CallbackOf(napi_value value, const char* name) {
  if (ok_ && TypeOf(value) != napi_function) Reject(name, "a function");
  return ok_ ? value : nullptr;
}

napi_value Args::Object(size_t index, const char* name) {
  if (ok_ && TypeOf(At(index)) != napi_object) Reject(name, "an object");
  return ok_ ? At(index) : nullptr;
}

std::vector<napi_value> Args::ListOf(napi_value value, const char* name, size_t most) {
  std::vector<napi_value> list;
  if (!ok_) return list;
  bool array = false;
  uint32_t length = 0;
  if (TypeOf(value) == napi_object) napi_is_array(env_, value, &array);
  if (array) napi_get_array_length(env_, value, &length);
  if (!array || length > most) {
    Reject(name, "an array of at most " + std::to_string(most) + " elements");
    return list;
  }
  list.resize(length, nullptr);
  for (uint32_t index = 0; index < length; index++) {
    if (napi_get_element(env_, value, index, &list[index]) != napi_ok) {
      ok_ = false;  // a getter threw: its exception is the one to see
      return std::vector<napi_value>();
    }
  }
  return list;
}

std::vector<int64_t> Args::IntegersOf(napi_value value, const char* name, size_t most, int64_t least,
                                      int64_t highest) {
  std::vector<int64_t> integers;
  for (napi_value element : ListOf(value, name, most)) integers.push_back(IntegerOf(element, name, least, highest));
  return integers;
}

napi_value Args::Property(napi_value object, const char* name) {
  if (!ok_) return nullptr;
  napi_value value = nullptr;
  if (napi_get_named_property(env_, object, name, &value) != napi_ok) {
    ok_ = false;  // a getter threw: its exception is the one to see
    return nullptr;
  }
  return TypeOf(value) == napi_undefined ? nullptr : value;
}

}  // namespace yavm
