// watch and unwatch: the one asynchronous primitive that JavaScript has.
#include <errno.h>

#include <map>

#include "args.h"
#include "callback.h"
#include "error.h"
#include "exports.h"
#include "lifetime.h"
#include "loop.h"
#include "value.h"
#include "watch.h"

namespace yavm {
namespace {

class Watcher : public Subject {
 public:
  Callback callback;
  bool forgotten = false;
  void Deliver() override {}
};

thread_local std::map<int, Watcher*> watchers;

void OnReady(void* data, int events) {
  Entry entry(Entry::From::kLoop);
  Watcher* watcher = static_cast<Watcher*>(data);
  if (!watcher->forgotten) watcher->callback.Call({MakeNumber(CurrentEnv(), events)});
}

void Forget(int fd) {
  auto found = watchers.find(fd);
  if (found == watchers.end()) return;
  Watcher* watcher = found->second;
  watchers.erase(found);
  yavm_loop_unwatch(fd);
  watcher->forgotten = true;
  Bury(watcher);
}

}  // namespace

void CloseAllWatches() {
  while (!watchers.empty()) Forget(watchers.begin()->first);
}

Napi::Value Watch(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "watch");
  const int fd = args.Fd(0, "fd");
  const int events = static_cast<int>(args.Integer(1, "events", 1, YAVM_READABLE | YAVM_WRITABLE));
  napi_value callback = args.Callback(2, "callback");
  if (!args.Ok()) return Nothing();
  auto found = watchers.find(fd);
  Watcher* watcher = found == watchers.end() ? new Watcher() : found->second;
  const int result = yavm_loop_watch(fd, events, OnReady, watcher);
  if (result < 0) {
    if (found == watchers.end()) delete watcher;
    return Fail(args.Env(), -result, "epoll_ctl");
  }
  watcher->callback.Set(callback);
  watchers[fd] = watcher;
  return Nothing();
}

Napi::Value Unwatch(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "unwatch");
  const int fd = args.Fd(0, "fd");
  if (args.Ok()) Forget(fd);
  return Nothing();
}

}  // namespace yavm
