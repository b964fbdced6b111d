// BigInts. QuickJS's C interface knows 64 bits; longer ones pass as hexadecimal text.
#include <string.h>

#include "node_api.h"

#define DIGITS_PER_WORD 16
// 2^24 bits, as V8 allows.
#define MAX_WORDS (1 << 18)

napi_status napi_create_bigint_int64(napi_env env, int64_t value, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewBigInt64(env->ctx, value), result);
}

napi_status napi_create_bigint_uint64(napi_env env, uint64_t value, napi_value* result) {
  REQUIRE(env, result);
  return env_return(env, JS_NewBigUint64(env->ctx, value), result);
}

// Compares with what was read back, and frees that.
static bool is_same(napi_env env, JSValueConst value, JSValue other) {
  const bool same = JS_StrictEq(env->ctx, value, other);
  JS_FreeValue(env->ctx, other);
  return same;
}

napi_status napi_get_value_bigint_int64(napi_env env, napi_value value, int64_t* result, bool* lossless) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  REQUIRE(env, lossless);
  EXPECT(env, JS_IsBigInt(env->ctx, value_of(value)), napi_bigint_expected);
  if (JS_ToBigInt64(env->ctx, result, value_of(value)) < 0) return env_caught(env);
  *lossless = is_same(env, value_of(value), JS_NewBigInt64(env->ctx, *result));
  return env_status(env, napi_ok);
}

napi_status napi_get_value_bigint_uint64(napi_env env, napi_value value, uint64_t* result, bool* lossless) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  REQUIRE(env, lossless);
  EXPECT(env, JS_IsBigInt(env->ctx, value_of(value)), napi_bigint_expected);
  if (JS_ToBigInt64(env->ctx, (int64_t*)result, value_of(value)) < 0) return env_caught(env);
  *lossless = is_same(env, value_of(value), JS_NewBigUint64(env->ctx, *result));
  return env_status(env, napi_ok);
}

// ---- words, least significant first -------------------------------------------------------------------------

// Writes "0x" and all digits of the words. `text` has room for them.
static size_t words_to_hex(const uint64_t* words, size_t count, char* text) {
  char* end = text;
  *end++ = '0';
  *end++ = 'x';
  for (size_t index = count; index-- > 0;) {
    for (int shift = 60; shift >= 0; shift -= 4) *end++ = "0123456789abcdef"[words[index] >> shift & 15];
  }
  if (count == 0) *end++ = '0';
  return (size_t)(end - text);
}

// -value. There is no C function for it; BigInt("-…") takes decimal digits only.
static JSValue negate(napi_env env, JSValue value) {
  JSContext* ctx = env->ctx;
  JSValueConst radix = JS_NewInt32(ctx, 10);
  const JSValue digits = JS_Call(ctx, env->intrinsics[INTRINSIC_BIG_INT_TO_STRING], value, 1, &radix);
  JS_FreeValue(ctx, value);
  size_t length;
  const char* text = JS_IsException(digits) ? NULL : JS_ToCStringLen(ctx, &length, digits);
  JSValue result = JS_EXCEPTION;
  char* negative = text == NULL ? NULL : js_malloc(ctx, length + 2);
  if (negative != NULL) {
    negative[0] = '-';
    memcpy(negative + 1, text, length + 1);
    const JSValue argument = JS_NewStringLen(ctx, negative, length + 1);
    result = JS_Call(ctx, env->intrinsics[INTRINSIC_BIG_INT], JS_UNDEFINED, 1, (JSValueConst*)&argument);
    JS_FreeValue(ctx, argument);
    js_free(ctx, negative);
  }
  JS_FreeCString(ctx, text);
  JS_FreeValue(ctx, digits);
  return result;
}

napi_status napi_create_bigint_words(napi_env env, int is_negative, size_t count, const uint64_t* words,
                                     napi_value* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, words);
  REQUIRE(env, result);
  EXPECT(env, count <= INT32_MAX, napi_invalid_arg);
  if (count > MAX_WORDS) {
    napi_throw_range_error(env, NULL, "Maximum BigInt size exceeded");
    return env_status(env, napi_pending_exception);
  }
  JSContext* ctx = env->ctx;
  char* text = js_malloc(ctx, count * DIGITS_PER_WORD + 3);
  if (text == NULL) return env_caught(env);
  const JSValue argument = JS_NewStringLen(ctx, text, words_to_hex(words, count, text));
  js_free(ctx, text);
  JSValue value = JS_Call(ctx, env->intrinsics[INTRINSIC_BIG_INT], JS_UNDEFINED, 1, (JSValueConst*)&argument);
  JS_FreeValue(ctx, argument);
  if (is_negative && !JS_IsException(value)) value = negate(env, value);
  return env_return(env, value, result);
}

static unsigned digit_value(char digit) { return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'a' + 10); }

napi_status napi_get_value_bigint_words(napi_env env, napi_value value, int* sign_bit, size_t* word_count,
                                        uint64_t* words) {
  REQUIRE(env, value);
  REQUIRE(env, word_count);
  EXPECT(env, (sign_bit == NULL) == (words == NULL), napi_invalid_arg);
  EXPECT(env, JS_IsBigInt(env->ctx, value_of(value)), napi_bigint_expected);
  JSContext* ctx = env->ctx;
  JSValueConst radix = JS_NewInt32(ctx, 16);
  const JSValue digits = JS_Call(ctx, env->intrinsics[INTRINSIC_BIG_INT_TO_STRING], value_of(value), 1, &radix);
  size_t length = 0;
  const char* text = JS_IsException(digits) ? NULL : JS_ToCStringLen(ctx, &length, digits);
  JS_FreeValue(ctx, digits);
  if (text == NULL) return env_caught(env);
  const char* first = text + (text[0] == '-');
  first += strspn(first, "0");  // QuickJS writes one in front of some numbers.
  size_t left = length - (size_t)(first - text);
  const size_t needed = (left + DIGITS_PER_WORD - 1) / DIGITS_PER_WORD;
  if (words != NULL) {
    *sign_bit = text[0] == '-';
    for (size_t index = 0; index < *word_count && index < needed; index++) {
      uint64_t word = 0;
      for (int shift = 0; shift < 64 && left > 0; shift += 4) word |= (uint64_t)digit_value(first[--left]) << shift;
      words[index] = word;
    }
  }
  *word_count = needed;
  JS_FreeCString(ctx, text);
  return env_status(env, napi_ok);
}
