// The event loop of the addon under Node: uv_poll on the loop of the thread that loaded it. Not part of /init.
#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <uv.h>

#include <vector>

#include "callback.h"
#include "lifetime.h"
#include "loop.h"

namespace {

struct Watch {
  uv_poll_t poll;
  int fd;
  int events;
  yavm_loop_callback callback;
  void* data;
  bool forgotten;
};

struct Deferred {
  yavm_loop_callback callback;
  void* data;
};

struct Loop {
  uv_loop_t* uv = nullptr;
  std::vector<Watch*> watches;  // by descriptor
  std::vector<Deferred> deferred;
  // An idle handle keeps the loop from sleeping, a check handle runs after the events: together a deferred call.
  uv_idle_t idle;
  uv_check_t check;
  int open_handles = 0;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  bool stopping = false;
};
thread_local Loop loop;

// ---------------------------------------------------------------- start and end

void HandleClosed() {
  loop.open_handles--;
  if (loop.stopping && loop.open_handles == 0) {
    napi_remove_async_cleanup_hook(loop.cleanup);
    loop = Loop();
  }
}

void OnWatchClosed(uv_handle_t* handle) {
  delete static_cast<Watch*>(handle->data);
  HandleClosed();
}

void OnFixedClosed(uv_handle_t*) { HandleClosed(); }

// Node ends this thread's environment: no call of ours may come afterwards, and a worker's loop must be left empty.
void OnCleanup(napi_async_cleanup_hook_handle, void*) {
  loop.stopping = true;
  yavm::EndThread();
  for (size_t fd = 0; fd < loop.watches.size(); fd++) yavm_loop_unwatch(static_cast<int>(fd));
  loop.deferred.clear();
  uv_close(reinterpret_cast<uv_handle_t*>(&loop.idle), OnFixedClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&loop.check), OnFixedClosed);
  yavm::SetCurrentEnv(nullptr);
}

int Start() {
  if (loop.stopping) return -ECANCELED;
  if (loop.uv) return 0;
  napi_env env = yavm::CurrentEnv();
  if (!env || napi_get_uv_event_loop(env, &loop.uv) != napi_ok) return -EINVAL;
  if (napi_add_async_cleanup_hook(env, OnCleanup, nullptr, &loop.cleanup) != napi_ok) {
    loop.uv = nullptr;
    return -EINVAL;
  }
  uv_idle_init(loop.uv, &loop.idle);
  uv_check_init(loop.uv, &loop.check);
  loop.open_handles = 2;
  return 0;
}

// ---------------------------------------------------------------- watches

Watch* Find(int fd) {
  return fd >= 0 && static_cast<size_t>(fd) < loop.watches.size() ? loop.watches[fd] : nullptr;
}

void OnPoll(uv_poll_t* handle, int status, int events);

int Arm(Watch* watch) {
  int wanted = 0;
  if (watch->events & YAVM_READABLE) wanted |= UV_READABLE;
  if (watch->events & YAVM_WRITABLE) wanted |= UV_WRITABLE;
  return uv_poll_start(&watch->poll, wanted, OnPoll);
}

void OnPoll(uv_poll_t* handle, int status, int events) {
  Watch* watch = static_cast<Watch*>(handle->data);
  int ready = 0;
  if (status < 0) ready = YAVM_READABLE | YAVM_WRITABLE;
  if (events & UV_READABLE) ready |= YAVM_READABLE;
  if (events & UV_WRITABLE) ready |= YAVM_WRITABLE;
  watch->callback(watch->data, ready);
  // libuv stops polling a descriptor that has an error; ours is level-triggered and goes on. The handle outlives the
  // callback, because its memory is freed by a later turn of the loop.
  if (status < 0 && !watch->forgotten) Arm(watch);
}

// uv_poll_init makes the descriptor non-blocking, the engine's epoll does not: the flags stay the caller's.
int InitPoll(Watch* watch) {
  const int flags = fcntl(watch->fd, F_GETFL);
  if (flags < 0) return -errno;
  const int result = uv_poll_init(loop.uv, &watch->poll, watch->fd);
  if (result == 0) fcntl(watch->fd, F_SETFL, flags);
  return result;
}

void OnCheck(uv_check_t*) {
  std::vector<Deferred> batch;
  batch.swap(loop.deferred);
  uv_idle_stop(&loop.idle);
  uv_check_stop(&loop.check);
  for (const Deferred& deferred : batch) deferred.callback(deferred.data, 0);
}

}  // namespace

int yavm_loop_watch(int fd, int events, yavm_loop_callback callback, void* data) {
  const int started = Start();
  if (started < 0) return started;
  if (fd < 0) return -EBADF;
  Watch* watch = Find(fd);
  if (!watch) {
    watch = new Watch();
    watch->fd = fd;
    const int result = InitPoll(watch);
    if (result < 0) {
      delete watch;
      return result;
    }
    watch->poll.data = watch;
    loop.open_handles++;
    if (static_cast<size_t>(fd) >= loop.watches.size()) loop.watches.resize(static_cast<size_t>(fd) + 1, nullptr);
    loop.watches[fd] = watch;
  }
  watch->events = events;
  watch->callback = callback;
  watch->data = data;
  return Arm(watch);
}

void yavm_loop_unwatch(int fd) {
  Watch* watch = Find(fd);
  if (!watch) return;
  loop.watches[fd] = nullptr;
  watch->forgotten = true;
  uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), OnWatchClosed);
}

int yavm_loop_defer(yavm_loop_callback callback, void* data) {
  const int started = Start();
  if (started < 0) return started;
  if (loop.deferred.empty()) {
    uv_idle_start(&loop.idle, [](uv_idle_t*) {});
    uv_check_start(&loop.check, OnCheck);
  }
  loop.deferred.push_back(Deferred{callback, data});
  return 0;
}
