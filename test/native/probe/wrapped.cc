// The entry, and the same things through node-addon-api, as native/addon uses them.
#include <napi.h>

#include "probe.h"

namespace {

class Counter : public Napi::ObjectWrap<Counter> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Counter",
                       {InstanceMethod("add", &Counter::Add), InstanceAccessor("total", &Counter::Total, nullptr),
                        StaticMethod("zero", &Counter::Zero)});
  }

  explicit Counter(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Counter>(info) {
    if (info.Length() > 0 && !info[0].IsNumber()) {
      Napi::TypeError::New(info.Env(), "not a number").ThrowAsJavaScriptException();
      return;
    }
    total_ = info.Length() > 0 ? info[0].As<Napi::Number>().DoubleValue() : 0;
  }

 private:
  Napi::Value Add(const Napi::CallbackInfo& info) {
    total_ += info[0].As<Napi::Number>().DoubleValue();
    return info.This();
  }
  Napi::Value Total(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), total_); }
  static Napi::Value Zero(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), 0); }

  double total_ = 0;
};

// A function kept between calls.
Napi::FunctionReference kept;

Napi::Value Keep(const Napi::CallbackInfo& info) {
  kept = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

// Calls it; a failure becomes text.
Napi::Value CallKept(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Value result = kept.Call({info[0], Napi::String::New(env, "extra")});
  if (!env.IsExceptionPending()) return result;
  return Napi::String::New(env, "caught: " + env.GetAndClearPendingException().Message());
}

Napi::Value Parts(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object object = Napi::Object::New(env);
  object.Set("number", 1.5);
  object.Set("text", std::string("t\xc3\xa9xt"));
  object.Set("flag", true);
  object.Set("bytes", Napi::Buffer<uint8_t>::Copy(env, reinterpret_cast<const uint8_t*>("xyz"), 3));
  Napi::Array list = Napi::Array::New(env);
  list.Set(uint32_t(0), object.Get("number"));
  object.Set("list", list);
  object.Set("lambda", Napi::Function::New(env, [](const Napi::CallbackInfo& call) {
               return Napi::Number::New(call.Env(), double(call.Length()));
             }));
  return object;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("Counter", Counter::Define(env));
  exports.Set("keep", Napi::Function::New(env, Keep));
  exports.Set("callKept", Napi::Function::New(env, CallKept));
  exports.Set("parts", Napi::Function::New(env, Parts));
  ExportValues(env, exports);
  ExportObjects(env, exports);
  ExportFunctions(env, exports);
  ExportLives(env, exports);
  ExportBuffers(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(probe, Init)
