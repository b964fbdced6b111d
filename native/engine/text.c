// TextEncoder and TextDecoder (UTF-8 only), of which CBOR makes much use: in JS they would be 100 times slower.
#include <string.h>
#include <strings.h>

#include "engine.h"
#include "utf8.h"

static const uint8_t byte_order_mark[] = {0xEF, 0xBB, 0xBF};

// The Encoding Standard's labels of UTF-8.
static const char* const labels[] = {"utf-8",           "utf8",           "unicode-1-1-utf-8",
                                     "unicode11utf8",   "unicode20utf8",  "x-unicode20utf8"};

struct decoder {
  bool fatal;
  bool ignores_mark;
  bool after_start;  // The place of a byte order mark has passed.
  uint8_t pending_length;
  uint8_t pending[3];  // The head of a character whose rest comes with the next chunk.
};

static JSClassID decoder_class;
static JSClassID encoder_class;

// ---- TextEncoder --------------------------------------------------------------------------------------------

static JSValue encoder_new(JSContext* ctx, JSValueConst new_target, int argc, JSValueConst* argv) {
  (void)argc, (void)argv;
  const JSValue prototype = JS_GetPropertyStr(ctx, new_target, "prototype");
  if (JS_IsException(prototype)) return prototype;
  const JSValue encoder = JS_NewObjectProtoClass(ctx, prototype, encoder_class);
  JS_FreeValue(ctx, prototype);
  return encoder;
}

static JSValue encoder_encode(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value;
  size_t length;
  if (argc == 0 || JS_IsUndefined(argv[0])) return bytes_new(ctx, NULL, 0);
  const char* text = utf8_from_string(ctx, &length, argv[0]);
  if (text == NULL) return JS_EXCEPTION;
  const JSValue array = bytes_new(ctx, (const uint8_t*)text, length);
  JS_FreeCString(ctx, text);
  return array;
}

// Bytes of the longest prefix of whole characters that fits in `room`.
static size_t fitting_prefix(const uint8_t* text, size_t length, size_t room) {
  if (length <= room) return length;
  size_t end = room;
  while (end > 0 && (text[end] & 0xC0) == 0x80) end--;
  return end;
}

// UTF-16 code units that valid UTF-8 stands for: one a character, two for those of four bytes.
static size_t utf16_length(const uint8_t* text, size_t length) {
  size_t units = 0;
  for (size_t index = 0; index < length; index++) {
    units += (text[index] & 0xC0) != 0x80;
    units += text[index] >= 0xF0;
  }
  return units;
}

static JSValue encoder_encode_into(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  uint8_t* target;
  size_t room;
  JSValue owner;
  size_t length;
  // The text first: converting it can run JS, which could detach the target.
  const char* text = utf8_from_string(ctx, &length, argv[0]);
  if (text == NULL) return JS_EXCEPTION;
  if (!bytes_get(ctx, argv[1], &target, &room, &owner)) {
    JS_FreeCString(ctx, text);
    return JS_EXCEPTION;
  }
  const size_t written = fitting_prefix((const uint8_t*)text, length, room);
  if (written > 0) memcpy(target, text, written);
  const size_t read = utf16_length((const uint8_t*)text, written);
  JS_FreeCString(ctx, text);
  JS_FreeValue(ctx, owner);
  const JSValue result = JS_NewObject(ctx);
  JS_DefinePropertyValueStr(ctx, result, "read", JS_NewInt64(ctx, (int64_t)read), JS_PROP_C_W_E);
  JS_DefinePropertyValueStr(ctx, result, "written", JS_NewInt64(ctx, (int64_t)written), JS_PROP_C_W_E);
  return result;
}

static JSValue encoding_name(JSContext* ctx, JSValueConst this_value) {
  (void)this_value;
  return JS_NewString(ctx, "utf-8");
}

// ---- TextDecoder --------------------------------------------------------------------------------------------

static void decoder_finalize(JSRuntime* runtime, JSValue value) {
  js_free_rt(runtime, JS_GetOpaque(value, decoder_class));
}

static bool is_label(const char* text) {
  text += strspn(text, "\t\n\f\r ");
  const size_t length = strcspn(text, "\t\n\f\r ");
  if (text[length + strspn(text + length, "\t\n\f\r ")] != '\0') return false;
  for (size_t index = 0; index < ENGINE_COUNT(labels); index++) {
    if (strlen(labels[index]) == length && strncasecmp(text, labels[index], length) == 0) return true;
  }
  return false;
}

// Throws a RangeError for an encoding that is not UTF-8. Returns false then, or when String(label) throws.
static bool check_label(JSContext* ctx, JSValueConst label) {
  if (JS_IsUndefined(label)) return true;
  const char* text = JS_ToCString(ctx, label);
  if (text == NULL) return false;
  const bool known = is_label(text);
  if (!known) JS_ThrowRangeError(ctx, "The \"%s\" encoding is not supported", text);
  JS_FreeCString(ctx, text);
  return known;
}

// Reads a boolean member of an options object that may be absent. Returns -1 when an exception is pending.
static int option(JSContext* ctx, JSValueConst options, const char* name) {
  if (JS_IsUndefined(options) || JS_IsNull(options)) return 0;
  const JSValue value = JS_GetPropertyStr(ctx, options, name);
  if (JS_IsException(value)) return -1;
  const int truth = JS_ToBool(ctx, value);
  JS_FreeValue(ctx, value);
  return truth;
}

static JSValue decoder_new(JSContext* ctx, JSValueConst new_target, int argc, JSValueConst* argv) {
  if (!check_label(ctx, argc > 0 ? argv[0] : JS_UNDEFINED)) return JS_EXCEPTION;
  const JSValueConst options = argc > 1 ? argv[1] : JS_UNDEFINED;
  const int fatal = option(ctx, options, "fatal");
  const int ignores_mark = option(ctx, options, "ignoreBOM");
  if (fatal < 0 || ignores_mark < 0) return JS_EXCEPTION;
  const JSValue prototype = JS_GetPropertyStr(ctx, new_target, "prototype");
  if (JS_IsException(prototype)) return prototype;
  const JSValue object = JS_NewObjectProtoClass(ctx, prototype, decoder_class);
  JS_FreeValue(ctx, prototype);
  if (JS_IsException(object)) return object;
  struct decoder* decoder = js_mallocz(ctx, sizeof(*decoder));
  if (decoder == NULL) {
    JS_FreeValue(ctx, object);
    return JS_EXCEPTION;
  }
  decoder->fatal = fatal;
  decoder->ignores_mark = ignores_mark;
  JS_SetOpaque(object, decoder);
  return object;
}

// Decodes one chunk that has the pending bytes in front already.
static JSValue decode_chunk(JSContext* ctx, struct decoder* decoder, const uint8_t* bytes, size_t length,
                            bool more_follows) {
  size_t valid = utf8_valid_prefix(bytes, length);
  size_t end = length;
  // A cut character at the very end waits for the next chunk. Only the last three bytes can begin one.
  if (more_follows) {
    for (size_t back = length < 3 ? length : 3; back > 0; back--) {
      bool incomplete;
      if (length - back < valid) continue;
      if (utf8_sequence(bytes + length - back, back, &incomplete) < 0 && incomplete) {
        end = length - back;
        break;
      }
    }
  }
  if (decoder->fatal && valid < end) return JS_ThrowTypeError(ctx, "The encoded data was not valid for encoding utf-8");
  decoder->pending_length = (uint8_t)(length - end);
  if (length > end) memcpy(decoder->pending, bytes + end, length - end);
  size_t start = 0;
  if (!decoder->after_start && end > 0) {
    decoder->after_start = true;
    const bool marked = end >= sizeof(byte_order_mark) && memcmp(bytes, byte_order_mark, sizeof(byte_order_mark)) == 0;
    if (marked && !decoder->ignores_mark) start = sizeof(byte_order_mark);
  }
  if (valid >= end) return JS_NewStringLen(ctx, (const char*)bytes + start, end - start);
  return utf8_to_string(ctx, bytes + start, end - start);
}

static JSValue decoder_decode(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  struct decoder* decoder = JS_GetOpaque2(ctx, this_value, decoder_class);
  if (decoder == NULL) return JS_EXCEPTION;
  const int stream = option(ctx, argc > 1 ? argv[1] : JS_UNDEFINED, "stream");
  if (stream < 0) return JS_EXCEPTION;
  uint8_t* bytes = NULL;
  size_t length = 0;
  JSValue owner = JS_UNDEFINED;
  if (argc > 0 && !JS_IsUndefined(argv[0]) && !bytes_get(ctx, argv[0], &bytes, &length, &owner)) return JS_EXCEPTION;
  uint8_t* joined = NULL;
  JSValue text = JS_EXCEPTION;
  if (decoder->pending_length > 0) {
    joined = js_malloc(ctx, decoder->pending_length + length);
    if (joined == NULL) goto done;
    memcpy(joined, decoder->pending, decoder->pending_length);
    if (length > 0) memcpy(joined + decoder->pending_length, bytes, length);
    length += decoder->pending_length;
    decoder->pending_length = 0;
  }
  text = decode_chunk(ctx, decoder, joined == NULL ? bytes : joined, length, stream);

done:
  if (!stream || JS_IsException(text)) {
    decoder->after_start = false;
    decoder->pending_length = 0;
  }
  js_free(ctx, joined);
  JS_FreeValue(ctx, owner);
  return text;
}

static JSValue decoder_flag(JSContext* ctx, JSValueConst this_value, int wants_fatal) {
  const struct decoder* decoder = JS_GetOpaque2(ctx, this_value, decoder_class);
  if (decoder == NULL) return JS_EXCEPTION;
  return JS_NewBool(ctx, wants_fatal ? decoder->fatal : decoder->ignores_mark);
}

// ---- classes ------------------------------------------------------------------------------------------------

static const JSCFunctionListEntry encoder_members[] = {
    JS_CFUNC_DEF("encode", 0, encoder_encode),
    JS_CFUNC_DEF("encodeInto", 2, encoder_encode_into),
    JS_CGETSET_DEF("encoding", encoding_name, NULL),
};

static const JSCFunctionListEntry decoder_members[] = {
    JS_CFUNC_DEF("decode", 0, decoder_decode),
    JS_CGETSET_DEF("encoding", encoding_name, NULL),
    JS_CGETSET_MAGIC_DEF("fatal", decoder_flag, NULL, 1),
    JS_CGETSET_MAGIC_DEF("ignoreBOM", decoder_flag, NULL, 0),
};

static void define_class(JSContext* ctx, JSValueConst global, JSClassID* id, const JSClassDef* definition,
                         JSCFunction* constructor, const JSCFunctionListEntry* members, int count) {
  JS_NewClassID(id);
  JS_NewClass(JS_GetRuntime(ctx), *id, definition);
  const JSValue prototype = JS_NewObject(ctx);
  JS_SetPropertyFunctionList(ctx, prototype, members, count);
  const JSValue function = JS_NewCFunction2(ctx, constructor, definition->class_name, 0, JS_CFUNC_constructor, 0);
  JS_SetConstructor(ctx, function, prototype);
  JS_SetClassProto(ctx, *id, prototype);
  JS_DefinePropertyValueStr(ctx, global, definition->class_name, function, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
}

void text_install(JSContext* ctx, JSValueConst global) {
  static const JSClassDef encoder = {.class_name = "TextEncoder"};
  static const JSClassDef decoder = {.class_name = "TextDecoder", .finalizer = decoder_finalize};
  define_class(ctx, global, &encoder_class, &encoder, encoder_new, encoder_members, ENGINE_COUNT(encoder_members));
  define_class(ctx, global, &decoder_class, &decoder, decoder_new, decoder_members, ENGINE_COUNT(decoder_members));
}
