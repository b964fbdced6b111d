// A JavaScript function kept by native code, and how native code re-enters JavaScript.
#pragma once

#include <napi.h>

#include <vector>

namespace yavm {

// Node-API environment of this thread; set when the addon is registered. Every host thread (Node's workers) has its own.
napi_env CurrentEnv();
void SetCurrentEnv(napi_env env);

class Callback {
 public:
  Callback() = default;
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  Callback(Callback&& other) noexcept : reference_(other.reference_) { other.reference_ = nullptr; }
  Callback& operator=(Callback&& other) noexcept;
  ~Callback() { Reset(); }

  void Set(napi_value function);
  void Reset();
  bool IsSet() const { return reference_ != nullptr; }

  // Calls it as an event handler is called: microtasks run afterwards, and what it throws is an uncaught exception.
  // Must be inside an Entry (lifetime.h), which opens the handle scope.
  void Call(const std::vector<napi_value>& arguments) const;

 private:
  napi_ref reference_ = nullptr;
};

}  // namespace yavm
