// UTF-8 as the WHATWG Encoding Standard reads it, between bytes and JS strings.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quickjs.h"

// Length of the longest prefix that is valid UTF-8.
size_t utf8_valid_prefix(const uint8_t* bytes, size_t length);
// Length of the sequence at `bytes` (length > 0): positive when it is one character, else minus the number of bytes
// that one U+FFFD stands for. `incomplete` is set when only the end of the input made it invalid.
int utf8_sequence(const uint8_t* bytes, size_t length, bool* incomplete);
// The JS string of any bytes: each maximal ill-formed subpart becomes U+FFFD.
JSValue utf8_to_string(JSContext* ctx, const uint8_t* bytes, size_t length);
// The UTF-8 of String(value), lone surrogates replaced by U+FFFD; freed with JS_FreeCString(). NULL: an exception.
const char* utf8_from_string(JSContext* ctx, size_t* length, JSValueConst value);
