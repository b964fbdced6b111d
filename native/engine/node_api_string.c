// Strings, between JS and the three encodings of Node-API.
#include <string.h>

#include "node_api.h"
#include "utf8.h"


JSValue string_new(napi_env env, const char* text, size_t length) {
  if (length == NAPI_AUTO_LENGTH) length = strlen(text);
  return utf8_to_string(env->ctx, (const uint8_t*)text, length);
}

napi_status napi_create_string_utf8(napi_env env, const char* text, size_t length, napi_value* result) {
  REQUIRE(env, result);
  if (text == NULL) EXPECT(env, length == 0, napi_invalid_arg);
  EXPECT(env, length == NAPI_AUTO_LENGTH || length <= INT32_MAX, napi_invalid_arg);
  return env_return(env, string_new(env, text == NULL ? "" : text, text == NULL ? 0 : length), result);
}

// Appends one code point as UTF-8; surrogates too, which QuickJS reads back as what they are.
static uint8_t* put_code_point(uint8_t* end, uint32_t code) {
  if (code < 0x80) {
    *end++ = (uint8_t)code;
  } else if (code < 0x800) {
    *end++ = (uint8_t)(0xC0 | code >> 6);
    *end++ = (uint8_t)(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    *end++ = (uint8_t)(0xE0 | code >> 12);
    *end++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    *end++ = (uint8_t)(0x80 | (code & 0x3F));
  } else {
    *end++ = (uint8_t)(0xF0 | code >> 18);
    *end++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    *end++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    *end++ = (uint8_t)(0x80 | (code & 0x3F));
  }
  return end;
}

napi_status napi_create_string_latin1(napi_env env, const char* text, size_t length, napi_value* result) {
  REQUIRE(env, result);
  if (text == NULL) EXPECT(env, length == 0, napi_invalid_arg);
  if (length == NAPI_AUTO_LENGTH) length = strlen(text);
  EXPECT(env, length <= INT32_MAX, napi_invalid_arg);
  uint8_t* bytes = js_malloc(env->ctx, length * 2 + 1);
  if (bytes == NULL) return env_caught(env);
  uint8_t* end = bytes;
  for (size_t index = 0; index < length; index++) end = put_code_point(end, (unsigned char)text[index]);
  const JSValue string = JS_NewStringLen(env->ctx, (const char*)bytes, (size_t)(end - bytes));
  js_free(env->ctx, bytes);
  return env_return(env, string, result);
}

static bool is_high_surrogate(uint32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
static bool is_low_surrogate(uint32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }

napi_status napi_create_string_utf16(napi_env env, const char16_t* text, size_t length, napi_value* result) {
  REQUIRE(env, result);
  if (text == NULL) EXPECT(env, length == 0, napi_invalid_arg);
  if (length == NAPI_AUTO_LENGTH) {
    length = 0;
    while (text[length] != 0) length++;
  }
  EXPECT(env, length <= INT32_MAX, napi_invalid_arg);
  uint8_t* bytes = js_malloc(env->ctx, length * 3 + 1);
  if (bytes == NULL) return env_caught(env);
  uint8_t* end = bytes;
  for (size_t index = 0; index < length; index++) {
    uint32_t code = text[index];
    if (is_high_surrogate(code) && index + 1 < length && is_low_surrogate(text[index + 1])) {
      code = 0x10000 + ((code - 0xD800) << 10) + (text[++index] - 0xDC00u);
    }
    end = put_code_point(end, code);
  }
  const JSValue string = JS_NewStringLen(env->ctx, (const char*)bytes, (size_t)(end - bytes));
  js_free(env->ctx, bytes);
  return env_return(env, string, result);
}

// ---- out of JS ----------------------------------------------------------------------------------------------

// All three: without a buffer the whole length is reported, else what was copied; a NUL ends the copy and is not
// counted. UTF-8 is cut between characters, the others between code units.

napi_status napi_get_value_string_utf8(napi_env env, napi_value value, char* buffer, size_t size, size_t* result) {
  REQUIRE(env, value);
  EXPECT(env, JS_IsString(value_of(value)), napi_string_expected);
  if (buffer == NULL) REQUIRE(env, result);
  size_t length;
  const char* text = utf8_from_string(env->ctx, &length, value_of(value));
  if (text == NULL) return env_caught(env);
  if (buffer != NULL) {
    const size_t room = size == 0 ? 0 : size - 1;
    if (length > room) {
      length = room;
      while (length > 0 && (text[length] & 0xC0) == 0x80) length--;
    }
    memcpy(buffer, text, length);
    if (size > 0) buffer[length] = '\0';
  }
  if (result != NULL) *result = length;
  JS_FreeCString(env->ctx, text);
  return env_status(env, napi_ok);
}

// Reads one code point of UTF-8 that QuickJS wrote.
static uint32_t next_code_point(const uint8_t** text) {
  const uint8_t* p = *text;
  uint32_t code = *p++;
  int more = code >= 0xF0 ? 3 : code >= 0xE0 ? 2 : code >= 0xC0 ? 1 : 0;
  if (more > 0) code &= 0x3Fu >> more;
  while (more-- > 0) code = code << 6 | (*p++ & 0x3F);
  *text = p;
  return code;
}

// The number of UTF-16 code units of a string; as many as there is room for are stored.
static size_t to_utf16(const uint8_t* text, const uint8_t* end, char16_t* buffer, size_t room) {
  size_t units = 0;
  while (text < end) {
    const uint32_t code = next_code_point(&text);
    const char16_t pair[] = {(char16_t)(0xD800 + ((code - 0x10000) >> 10)), (char16_t)(0xDC00 + (code & 0x3FF))};
    const size_t need = code >= 0x10000 ? 2 : 1;
    for (size_t index = 0; index < need; index++, units++) {
      if (buffer != NULL && units < room) buffer[units] = need == 2 ? pair[index] : (char16_t)code;
    }
  }
  return units;
}

napi_status napi_get_value_string_utf16(napi_env env, napi_value value, char16_t* buffer, size_t size,
                                        size_t* result) {
  REQUIRE(env, value);
  EXPECT(env, JS_IsString(value_of(value)), napi_string_expected);
  if (buffer == NULL) REQUIRE(env, result);
  size_t length;
  const char* text = JS_ToCStringLen(env->ctx, &length, value_of(value));
  if (text == NULL) return env_caught(env);
  const uint8_t* start = (const uint8_t*)text;
  const size_t room = size == 0 ? 0 : size - 1;
  size_t units = to_utf16(start, start + length, buffer, room);
  if (buffer != NULL && units > room) units = room;
  if (buffer != NULL && size > 0) buffer[units] = 0;
  if (result != NULL) *result = units;
  JS_FreeCString(env->ctx, text);
  return env_status(env, napi_ok);
}

// The low byte of each UTF-16 code unit, as Node does it.
napi_status napi_get_value_string_latin1(napi_env env, napi_value value, char* buffer, size_t size, size_t* result) {
  size_t units;
  napi_status status = napi_get_value_string_utf16(env, value, NULL, 0, &units);
  if (status != napi_ok) return status;
  if (buffer == NULL) {
    REQUIRE(env, result);
    *result = units;
    return env_status(env, napi_ok);
  }
  char16_t* wide = js_malloc(env->ctx, (units + 1) * sizeof(*wide));
  if (wide == NULL) return env_caught(env);
  status = napi_get_value_string_utf16(env, value, wide, units + 1, &units);
  const size_t room = size == 0 ? 0 : size - 1;
  if (units > room) units = room;
  for (size_t index = 0; index < units; index++) buffer[index] = (char)wide[index];
  if (size > 0) buffer[units] = '\0';
  if (result != NULL) *result = units;
  js_free(env->ctx, wide);
  return env_status(env, status);
}
