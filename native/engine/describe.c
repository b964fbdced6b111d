// Values as text for people: what console prints and what a dying program says.
#include <stdio.h>
#include <string.h>

#include "engine.h"

// Causes printed at most: a chain that loops ends here.
#define MAX_CAUSES 5

struct text {
  JSContext* ctx;
  char* bytes;  // NUL-terminated; NULL once memory ran out.
  size_t length;
};

static void append(struct text* text, const char* bytes, size_t length) {
  if (text->bytes == NULL) return;
  char* grown = js_realloc(text->ctx, text->bytes, text->length + length + 1);
  if (grown == NULL) {
    js_free(text->ctx, text->bytes);
    text->bytes = NULL;
    JS_FreeValue(text->ctx, JS_GetException(text->ctx));
    return;
  }
  memcpy(grown + text->length, bytes, length);
  text->bytes = grown;
  text->length += length;
  grown[text->length] = '\0';
}

// Appends String(value); a value whose toString() throws is named, not reported: its error is of no interest here.
static void append_string(struct text* text, JSValueConst value) {
  size_t length;
  const char* bytes = JS_ToCStringLen(text->ctx, &length, value);
  if (bytes == NULL) {
    JS_FreeValue(text->ctx, JS_GetException(text->ctx));
    append(text, "[no text]", strlen("[no text]"));
    return;
  }
  append(text, bytes, length);
  JS_FreeCString(text->ctx, bytes);
}

// Reads a property without letting a getter's exception out.
static JSValue quiet_property(JSContext* ctx, JSValueConst object, const char* name) {
  const JSValue value = JS_GetPropertyStr(ctx, object, name);
  if (!JS_IsException(value)) return value;
  JS_FreeValue(ctx, JS_GetException(ctx));
  return JS_UNDEFINED;
}

static void append_error(struct text* text, JSValueConst error) {
  append_string(text, error);
  // QuickJS's stack has no message in it, and ends with a line feed.
  const JSValue stack = quiet_property(text->ctx, error, "stack");
  size_t length;
  const char* lines = JS_IsString(stack) ? JS_ToCStringLen(text->ctx, &length, stack) : NULL;
  if (lines != NULL) {
    while (length > 0 && lines[length - 1] == '\n') length--;
    if (length > 0) append(text, "\n", 1);
    append(text, lines, length);
    JS_FreeCString(text->ctx, lines);
  }
  JS_FreeValue(text->ctx, stack);
}

static void append_causes(struct text* text, JSValueConst error) {
  JSValue link = JS_DupValue(text->ctx, error);
  for (int depth = 0; depth < MAX_CAUSES; depth++) {
    const JSValue cause = quiet_property(text->ctx, link, "cause");
    JS_FreeValue(text->ctx, link);
    link = cause;
    if (!JS_IsError(text->ctx, cause)) break;
    append(text, "\ncaused by: ", strlen("\ncaused by: "));
    append_error(text, cause);
  }
  JS_FreeValue(text->ctx, link);
}

// JSON where that says more than "[object Object]".
static void append_object(struct text* text, JSValueConst object) {
  const JSValue json = JS_JSONStringify(text->ctx, object, JS_UNDEFINED, JS_UNDEFINED);
  if (JS_IsString(json)) {
    append_string(text, json);
  } else {
    if (JS_IsException(json)) JS_FreeValue(text->ctx, JS_GetException(text->ctx));
    append_string(text, object);
  }
  JS_FreeValue(text->ctx, json);
}

char* describe_value(JSContext* ctx, JSValueConst value) {
  struct text text = {ctx, js_mallocz(ctx, 1), 0};
  if (text.bytes == NULL) JS_FreeValue(ctx, JS_GetException(ctx));
  if (JS_IsError(ctx, value)) {
    append_error(&text, value);
    append_causes(&text, value);
  } else if (JS_IsSymbol(value)) {
    const JSValue description = quiet_property(ctx, value, "description");
    append(&text, "Symbol(", strlen("Symbol("));
    if (!JS_IsUndefined(description)) append_string(&text, description);
    append(&text, ")", 1);
    JS_FreeValue(ctx, description);
  } else if (JS_IsObject(value) && !JS_IsFunction(ctx, value)) {
    append_object(&text, value);
  } else {
    append_string(&text, value);
  }
  return text.bytes;
}
