// The event loop as the addon sees it: the only thing that differs between its two hosts.
// loop_uv.cc implements it with uv_poll under Node, native/engine/loop.c with epoll in /init.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#define YAVM_READABLE 1
#define YAVM_WRITABLE 2

typedef void (*yavm_loop_callback)(void* data, int events);

// Calls back whenever fd is ready for one of `events` (level-triggered; errors and hang-ups are reported as both).
// One watch a descriptor: a second call replaces events, callback and data. Returns 0 or a negative errno.
int yavm_loop_watch(int fd, int events, yavm_loop_callback callback, void* data);

// Forgets fd. Safe to call from any callback and for an unknown fd; no callback for fd comes afterwards.
void yavm_loop_unwatch(int fd);

// Calls back once, with events 0, after the events that are ready now: how a source that is always ready (a regular
// file) gives others their turn. Returns 0 or a negative errno.
int yavm_loop_defer(yavm_loop_callback callback, void* data);

#ifdef __cplusplus
}
#endif
