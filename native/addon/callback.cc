#include "callback.h"

namespace yavm {
namespace {

thread_local napi_env current_env = nullptr;

}  // namespace

napi_env CurrentEnv() { return current_env; }
void SetCurrentEnv(napi_env env) { current_env = env; }

Callback& Callback::operator=(Callback&& other) noexcept {
  if (this != &other) {
    Reset();
    reference_ = other.reference_;
    other.reference_ = nullptr;
  }
  return *this;
}

void Callback::Set(napi_value function) {
  Reset();
  napi_create_reference(CurrentEnv(), function, 1, &reference_);
}

void Callback::Reset() {
  if (reference_ && CurrentEnv()) napi_delete_reference(CurrentEnv(), reference_);
  reference_ = nullptr;
}

void Callback::Call(const std::vector<napi_value>& arguments) const {
  napi_env env = CurrentEnv();
  napi_value function = nullptr;
  if (!reference_ || napi_get_reference_value(env, reference_, &function) != napi_ok || !function) return;
  napi_value result = nullptr;
  // The function is its own `this`: Node-API wants an object there, and no handler looks at it.
  napi_make_callback(env, nullptr, function, function, arguments.size(), arguments.data(), &result);
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) return;
  napi_value error = nullptr;
  napi_get_and_clear_last_exception(env, &error);
  napi_fatal_exception(env, error);
}

}  // namespace yavm
