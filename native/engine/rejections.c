// Promise rejections that nobody handled. A handler may be attached until the microtasks have run: only then are
// they counted, so `const p = f(); await other(); await p` is judged as Node judges it.
#include <stdlib.h>

#include "engine.h"

struct rejection {
  struct rejection* next;
  JSValue promise;
  JSValue reason;
};

static struct rejection* rejections;

static void* identity(JSValueConst promise) { return JS_VALUE_GET_PTR(promise); }

static void remember(JSContext* ctx, JSValueConst promise, JSValueConst reason) {
  struct rejection* entry = malloc(sizeof(*entry));
  if (entry == NULL) fatal_error(ctx, "unhandled promise rejection", reason);
  entry->promise = JS_DupValue(ctx, promise);
  entry->reason = JS_DupValue(ctx, reason);
  entry->next = NULL;
  struct rejection** end = &rejections;
  while (*end != NULL) end = &(*end)->next;
  *end = entry;
}

static void forget(JSContext* ctx, JSValueConst promise) {
  for (struct rejection** link = &rejections; *link != NULL; link = &(*link)->next) {
    struct rejection* entry = *link;
    if (identity(entry->promise) != identity(promise)) continue;
    *link = entry->next;
    JS_FreeValue(ctx, entry->promise);
    JS_FreeValue(ctx, entry->reason);
    free(entry);
    return;
  }
}

static void track(JSContext* ctx, JSValueConst promise, JSValueConst reason, JS_BOOL is_handled, void* unused) {
  (void)unused;
  if (is_handled) {
    forget(ctx, promise);
  } else {
    remember(ctx, promise, reason);
  }
}

void rejections_track(JSRuntime* runtime) { JS_SetHostPromiseRejectionTracker(runtime, track, NULL); }

void rejections_report(JSContext* ctx) {
  if (rejections != NULL) fatal_error(ctx, "unhandled promise rejection", rejections->reason);
}
