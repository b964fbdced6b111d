// Native pointers that hang on JS objects: externals, wraps, finalizers and type tags.
//
// An external is an object of a class of its own. To any other object a pointer is attached by a WeakMap from the
// object to an attachment, which dies with it; so it works for frozen objects too and no script can see it.
#include <stdlib.h>

#include "node_api.h"

struct attachment {
  bool is_wrapped;
  bool is_tagged;
  void* wrapped;
  napi_type_tag tag;
  struct finalizer* wrap_finalizer;
  struct finalizer* finalizers;
};

struct external {
  void* data;
  struct finalizer* finalizer;
};

static JSClassID attachment_class;
static JSClassID external_class;
// The WeakMap.
static JSValue attachments = ENGINE_UNDEFINED;

static void attachment_finalize(JSRuntime* runtime, JSValue value) {
  struct attachment* attachment = JS_GetOpaque(value, attachment_class);
  if (attachment == NULL) return;
  if (attachment->wrap_finalizer != NULL) finalizer_queue(attachment->wrap_finalizer);
  while (attachment->finalizers != NULL) {
    struct finalizer* finalizer = attachment->finalizers;
    attachment->finalizers = finalizer->next;
    finalizer_queue(finalizer);
  }
  js_free_rt(runtime, attachment);
}

static void external_finalize(JSRuntime* runtime, JSValue value) {
  struct external* external = JS_GetOpaque(value, external_class);
  if (external == NULL) return;
  if (external->finalizer != NULL) finalizer_queue(external->finalizer);
  js_free_rt(runtime, external);
}

void externals_define(napi_env env) {
  static const JSClassDef attachment = {.class_name = "NativeAttachment", .finalizer = attachment_finalize};
  static const JSClassDef external = {.class_name = "External", .finalizer = external_finalize};
  JSRuntime* runtime = JS_GetRuntime(env->ctx);
  JS_NewClassID(&attachment_class);
  JS_NewClass(runtime, attachment_class, &attachment);
  JS_NewClassID(&external_class);
  JS_NewClass(runtime, external_class, &external);
  attachments = JS_CallConstructor(env->ctx, env->intrinsics[INTRINSIC_WEAK_MAP], 0, NULL);
}

// Returns false when memory ran out; a finalizer that is not wanted (call == NULL) is NULL.
static bool finalizer_new(napi_finalize call, void* data, void* hint, struct finalizer** result) {
  *result = NULL;
  if (call == NULL) return true;
  *result = malloc(sizeof(**result));
  if (*result == NULL) return false;
  **result = (struct finalizer){NULL, call, data, hint};
  return true;
}

// ---- externals ----------------------------------------------------------------------------------------------

bool is_external(JSValueConst value) { return JS_GetOpaque(value, external_class) != NULL; }

napi_status napi_create_external(napi_env env, void* data, node_api_basic_finalize finalize, void* hint,
                                 napi_value* result) {
  REQUIRE(env, result);
  MAY_RUN_JS(env);
  const JSValue object = JS_NewObjectProtoClass(env->ctx, JS_NULL, external_class);
  if (JS_IsException(object)) return env_caught(env);
  struct external* external = js_malloc(env->ctx, sizeof(*external));
  if (external == NULL) {
    JS_FreeValue(env->ctx, object);
    return env_caught(env);
  }
  external->data = data;
  external->finalizer = NULL;
  JS_SetOpaque(object, external);
  if (!finalizer_new(finalize, data, hint, &external->finalizer)) {
    JS_FreeValue(env->ctx, object);
    return env_status(env, napi_generic_failure);
  }
  return env_return(env, object, result);
}

napi_status napi_get_value_external(napi_env env, napi_value value, void** result) {
  REQUIRE(env, value);
  REQUIRE(env, result);
  const struct external* external = JS_GetOpaque(value_of(value), external_class);
  EXPECT(env, external != NULL, napi_invalid_arg);
  *result = external->data;
  return env_status(env, napi_ok);
}

// ---- attachments --------------------------------------------------------------------------------------------

// The attachment of an object; NULL when there is none. The WeakMap keeps it alive.
static struct attachment* find_attachment(napi_env env, JSValueConst object) {
  JSContext* ctx = env->ctx;
  const JSValue found = JS_Call(ctx, env->intrinsics[INTRINSIC_WEAK_MAP_GET], attachments, 1, &object);
  struct attachment* attachment = JS_GetOpaque(found, attachment_class);
  JS_FreeValue(ctx, found);
  return attachment;
}

// The same, made if there was none. NULL: an exception is pending in the context.
static struct attachment* get_attachment(napi_env env, JSValueConst object) {
  JSContext* ctx = env->ctx;
  struct attachment* attachment = find_attachment(env, object);
  if (attachment != NULL) return attachment;
  const JSValue holder = JS_NewObjectProtoClass(ctx, JS_NULL, attachment_class);
  if (JS_IsException(holder)) return NULL;
  attachment = js_mallocz(ctx, sizeof(*attachment));
  if (attachment != NULL) {
    JS_SetOpaque(holder, attachment);
    JSValueConst arguments[] = {object, holder};
    const JSValue map = JS_Call(ctx, env->intrinsics[INTRINSIC_WEAK_MAP_SET], attachments, 2, arguments);
    if (JS_IsException(map)) attachment = NULL;
    JS_FreeValue(ctx, map);
  }
  JS_FreeValue(ctx, holder);
  return attachment;
}

napi_status napi_wrap(napi_env env, napi_value object, void* native, node_api_basic_finalize finalize, void* hint,
                      napi_ref* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, object);
  EXPECT(env, JS_IsObject(value_of(object)), napi_object_expected);
  struct attachment* attachment = get_attachment(env, value_of(object));
  if (attachment == NULL) return env_caught(env);
  EXPECT(env, !attachment->is_wrapped, napi_invalid_arg);
  EXPECT(env, finalizer_new(finalize, native, hint, &attachment->wrap_finalizer), napi_generic_failure);
  attachment->is_wrapped = true;
  attachment->wrapped = native;
  if (result == NULL) return env_status(env, napi_ok);
  return napi_create_reference(env, object, 0, result);
}

// The attachment of a wrapped object, or NULL.
static struct attachment* wrap_of(napi_env env, napi_value object) {
  struct attachment* attachment = find_attachment(env, value_of(object));
  return attachment != NULL && attachment->is_wrapped ? attachment : NULL;
}

napi_status napi_unwrap(napi_env env, napi_value object, void** result) {
  REQUIRE(env, object);
  REQUIRE(env, result);
  EXPECT(env, JS_IsObject(value_of(object)), napi_object_expected);
  const struct attachment* attachment = wrap_of(env, object);
  EXPECT(env, attachment != NULL, napi_invalid_arg);
  *result = attachment->wrapped;
  return env_status(env, napi_ok);
}

napi_status napi_remove_wrap(napi_env env, napi_value object, void** result) {
  REQUIRE(env, object);
  EXPECT(env, JS_IsObject(value_of(object)), napi_object_expected);
  struct attachment* attachment = wrap_of(env, object);
  EXPECT(env, attachment != NULL, napi_invalid_arg);
  if (result != NULL) *result = attachment->wrapped;
  free(attachment->wrap_finalizer);  // Not called any more: the caller has the pointer back.
  attachment->wrap_finalizer = NULL;
  attachment->wrapped = NULL;
  attachment->is_wrapped = false;
  return env_status(env, napi_ok);
}

napi_status napi_add_finalizer(napi_env env, napi_value object, void* data, node_api_basic_finalize finalize,
                               void* hint, napi_ref* result) {
  REQUIRE(env, object);
  REQUIRE(env, finalize);
  EXPECT(env, JS_IsObject(value_of(object)), napi_object_expected);
  struct attachment* attachment = get_attachment(env, value_of(object));
  if (attachment == NULL) return env_caught(env);
  struct finalizer* finalizer;
  EXPECT(env, finalizer_new(finalize, data, hint, &finalizer), napi_generic_failure);
  finalizer->next = attachment->finalizers;
  attachment->finalizers = finalizer;
  if (result == NULL) return env_status(env, napi_ok);
  return napi_create_reference(env, object, 0, result);
}

napi_status napi_type_tag_object(napi_env env, napi_value object, const napi_type_tag* tag) {
  MAY_RUN_JS(env);
  REQUIRE(env, object);
  REQUIRE(env, tag);
  EXPECT(env, JS_IsObject(value_of(object)), napi_object_expected);
  struct attachment* attachment = get_attachment(env, value_of(object));
  if (attachment == NULL) return env_caught(env);
  EXPECT(env, !attachment->is_tagged, napi_invalid_arg);
  attachment->is_tagged = true;
  attachment->tag = *tag;
  return env_status(env, napi_ok);
}

napi_status napi_check_object_type_tag(napi_env env, napi_value object, const napi_type_tag* tag, bool* result) {
  MAY_RUN_JS(env);
  REQUIRE(env, object);
  REQUIRE(env, tag);
  REQUIRE(env, result);
  EXPECT(env, JS_IsObject(value_of(object)), napi_object_expected);
  const struct attachment* attachment = find_attachment(env, value_of(object));
  *result = attachment != NULL && attachment->is_tagged && attachment->tag.lower == tag->lower &&
            attachment->tag.upper == tag->upper;
  return env_status(env, napi_ok);
}
