#include "utf8.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

// Length of the ASCII prefix, eight bytes at a time.
static size_t ascii_prefix(const uint8_t* bytes, size_t length) {
  size_t offset = 0;
  while (offset + 8 <= length) {
    uint64_t word;
    memcpy(&word, bytes + offset, sizeof(word));
    if ((word & 0x8080808080808080u) != 0) break;
    offset += 8;
  }
  while (offset < length && bytes[offset] < 0x80) offset++;
  return offset;
}

int utf8_sequence(const uint8_t* bytes, size_t length, bool* incomplete) {
  const uint8_t lead = bytes[0];
  int need;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  *incomplete = false;
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) {
    need = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 3;
    if (lead == 0xE0) low = 0xA0;   // No overlong forms.
    if (lead == 0xED) high = 0x9F;  // No surrogates.
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 4;
    if (lead == 0xF0) low = 0x90;   // No overlong forms.
    if (lead == 0xF4) high = 0x8F;  // Nothing above U+10FFFF.
  } else {
    return -1;
  }
  for (int index = 1; index < need; index++) {
    if ((size_t)index == length) {
      *incomplete = true;
      return -index;
    }
    if (bytes[index] < low || bytes[index] > high) return -index;
    low = 0x80;
    high = 0xBF;
  }
  return need;
}

size_t utf8_valid_prefix(const uint8_t* bytes, size_t length) {
  size_t offset = 0;
  bool incomplete;
  for (;;) {
    offset += ascii_prefix(bytes + offset, length - offset);
    if (offset == length) return length;
    const int size = utf8_sequence(bytes + offset, length - offset, &incomplete);
    if (size < 0) return offset;
    offset += (size_t)size;
  }
}

// Copies `bytes` to `out`, if there is one, with replacements. Returns the length of the copy.
static size_t mend(const uint8_t* bytes, size_t length, uint8_t* out) {
  size_t total = 0;
  bool incomplete;
  while (length > 0) {
    const size_t valid = utf8_valid_prefix(bytes, length);
    if (out != NULL) memcpy(out + total, bytes, valid);
    total += valid;
    bytes += valid;
    length -= valid;
    if (length == 0) break;
    const size_t bad = (size_t)-utf8_sequence(bytes, length, &incomplete);
    if (out != NULL) memcpy(out + total, REPLACEMENT, 3);
    total += 3;
    bytes += bad;
    length -= bad;
  }
  return total;
}

JSValue utf8_to_string(JSContext* ctx, const uint8_t* bytes, size_t length) {
  // QuickJS reads valid UTF-8 as everyone does, but has its own ways with the rest.
  if (utf8_valid_prefix(bytes, length) == length) return JS_NewStringLen(ctx, (const char*)bytes, length);
  const size_t size = mend(bytes, length, NULL);
  uint8_t* mended = js_malloc(ctx, size);
  if (mended == NULL) return JS_EXCEPTION;
  mend(bytes, length, mended);
  const JSValue string = JS_NewStringLen(ctx, (const char*)mended, size);
  js_free(ctx, mended);
  return string;
}

const char* utf8_from_string(JSContext* ctx, size_t* length, JSValueConst value) {
  const char* text = JS_ToCStringLen(ctx, length, value);
  if (text == NULL) return NULL;
  // QuickJS encodes a lone surrogate in three bytes, ED A0…BF xx: as many as U+FFFD has. Only a string with such
  // characters is written to, and that is a copy made for us; plain ASCII is the JS string's own memory.
  uint8_t* next = (uint8_t*)text;
  size_t left = *length;
  while ((next = memchr(next, 0xED, left)) != NULL) {
    if (next[1] >= 0xA0) memcpy(next, REPLACEMENT, 3);
    next += 3;
    left = *length - (size_t)(next - (const uint8_t*)text);
  }
  return text;
}
