// The global objects that are not JavaScript's own.
#include <stdlib.h>
#include <unistd.h>

#include "engine.h"

#ifndef YAVM_VERSION
#define YAVM_VERSION "0.0.0"
#endif

static JSValue set_console(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  if (!JS_IsFunction(ctx, argv[0]) && !JS_IsUndefined(argv[0])) {
    return JS_ThrowTypeError(ctx, "setConsole: not a function");
  }
  console_set_sink(ctx, argv[0]);
  return JS_UNDEFINED;
}

static JSValue set_fatal_hook(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  if (!JS_IsFunction(ctx, argv[0]) && !JS_IsUndefined(argv[0])) {
    return JS_ThrowTypeError(ctx, "setFatalHook: not a function");
  }
  fatal_set_hook(ctx, argv[0]);
  return JS_UNDEFINED;
}

static JSValue set_fatal_fd(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  int32_t fd;
  if (JS_ToInt32(ctx, &fd, argv[0]) < 0) return JS_EXCEPTION;
  fatal_set_descriptor(fd);
  return JS_UNDEFINED;
}

static JSValue exit_process(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  int32_t code;
  if (JS_ToInt32(ctx, &code, argv[0]) < 0) return JS_EXCEPTION;
#ifndef YAVM_TEST_HOST
  // The kernel panics when its first process ends.
  if (getpid() == 1) return JS_ThrowInternalError(ctx, "exit: PID 1 ends with its machine (power.reboot)");
#endif
  addon_stop();
  exit(code);
}

static JSValue queue_microtask_job(JSContext* ctx, int argc, JSValueConst* argv) {
  (void)argc;
  return JS_Call(ctx, argv[0], JS_UNDEFINED, 0, NULL);
}

static JSValue queue_microtask(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  if (!JS_IsFunction(ctx, argv[0])) return JS_ThrowTypeError(ctx, "queueMicrotask: not a function");
  if (JS_EnqueueJob(ctx, queue_microtask_job, 1, argv) < 0) return JS_EXCEPTION;
  return JS_UNDEFINED;
}

static JSValue collect_garbage(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc, (void)argv;
  JS_RunGC(JS_GetRuntime(ctx));
  return JS_UNDEFINED;
}

static JSValue heap_used(JSContext* ctx, JSValueConst this_value) {
  (void)this_value;
  return JS_NewInt64(ctx, (int64_t)heap_in_use());
}

static JSValue set_callback_budget(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
  double seconds;
  if (JS_ToFloat64(ctx, &seconds, argv[0]) < 0) return JS_EXCEPTION;
  engine_set_callback_budget(seconds);
  return JS_UNDEFINED;
}

// Runs bytecode that fits this engine, and returns the script's last value. Only for children: what runs may compute for ever,
// and the machine must not end by it.
static JSValue run_bytecode(JSContext* ctx, JSValueConst this_value, int argc, JSValueConst* argv) {
  (void)this_value, (void)argc;
#ifndef YAVM_TEST_HOST
  if (getpid() == 1) return JS_ThrowInternalError(ctx, "runBytecode: not in PID 1");
#endif
  uint8_t* bytes;
  size_t length;
  JSValue owner;
  if (!bytes_get(ctx, argv[0], &bytes, &length, &owner)) return JS_EXCEPTION;
  const JSValue script = JS_ReadObject(ctx, bytes, length, JS_READ_OBJ_BYTECODE);
  JS_FreeValue(ctx, owner);
  return JS_IsException(script) ? JS_EXCEPTION : JS_EvalFunction(ctx, script);  // Takes `script` over.
}

static const JSCFunctionListEntry engine_properties[] = {
    JS_PROP_STRING_DEF("version", YAVM_VERSION, JS_PROP_ENUMERABLE),
    JS_PROP_STRING_DEF("bytecodeMark", YAVM_BYTECODE_MARK, JS_PROP_ENUMERABLE),
    JS_CFUNC_DEF("setConsole", 1, set_console),
    JS_CFUNC_DEF("setFatalHook", 1, set_fatal_hook),
    JS_CFUNC_DEF("setFatalFd", 1, set_fatal_fd),
    JS_CFUNC_DEF("exit", 1, exit_process),
    JS_CFUNC_DEF("collectGarbage", 0, collect_garbage),
    JS_CFUNC_DEF("setCallbackBudget", 1, set_callback_budget),
    JS_CFUNC_DEF("runBytecode", 1, run_bytecode),
    JS_CGETSET_DEF("heapUsed", heap_used, NULL),
};

static JSValue arguments_array(JSContext* ctx, int argc, char** argv) {
  const JSValue array = JS_NewArray(ctx);
  for (int index = 0; index < argc; index++) {
    JS_DefinePropertyValueUint32(ctx, array, (uint32_t)index, JS_NewString(ctx, argv[index]), JS_PROP_C_W_E);
  }
  return array;
}

void globals_install(JSContext* ctx, int argc, char** argv) {
  const JSValue global = JS_GetGlobalObject(ctx);
  const int hidden = JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE;
  const JSValue engine = JS_NewObject(ctx);
  JS_SetPropertyFunctionList(ctx, engine, engine_properties, ENGINE_COUNT(engine_properties));
  JS_DefinePropertyValueStr(ctx, engine, "args", arguments_array(ctx, argc, argv), JS_PROP_ENUMERABLE);
  JS_DefinePropertyValueStr(ctx, global, "yavmEngine", engine, hidden);
  const JSValue microtask = JS_NewCFunction(ctx, queue_microtask, "queueMicrotask", 1);
  JS_DefinePropertyValueStr(ctx, global, "queueMicrotask", microtask, hidden);
  console_install(ctx, global);
  timers_install(ctx, global);
  text_install(ctx, global);
  JS_FreeValue(ctx, global);
  if (JS_HasException(ctx)) fatal_exception(ctx, "the engine's own objects");
}
