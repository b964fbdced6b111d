// The event loop: one epoll instance, level-triggered, and the timers. It implements native/addon/loop.h.
//
// Each watch has a generation, and an event carries the one that it was made for. So an event that epoll_wait
// returned together with others is dropped when a callback before it unwatched the descriptor, even when the number
// is in use again for another file by then.
#include "../addon/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

// Events fetched by one epoll_wait.
#define BATCH 64

struct watch {
  yavm_loop_callback callback;  // NULL: not watched.
  void* data;
  uint32_t generation;
  uint8_t events;
};

struct deferred {
  struct deferred* next;
  yavm_loop_callback callback;
  void* data;
};

static int epoll_fd = -1;
static struct watch* watches;  // By descriptor.
static int watch_capacity;
static int watch_count;
static struct deferred* deferred_first;
static struct deferred** deferred_end = &deferred_first;

int64_t loop_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void loop_start(void) {
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) fatal_text(ENGINE_EXIT_CRASH, "epoll_create1 failed");
}

// Makes room for `fd` in the table. Returns 0 or a negative errno.
static int reserve_watch(int fd) {
  if (fd < watch_capacity) return 0;
  int capacity = watch_capacity == 0 ? 32 : watch_capacity;
  while (capacity <= fd) capacity *= 2;
  struct watch* grown = reallocarray(watches, (size_t)capacity, sizeof(*grown));
  if (grown == NULL) return -ENOMEM;
  for (int index = watch_capacity; index < capacity; index++) grown[index] = (struct watch){0};
  watches = grown;
  watch_capacity = capacity;
  return 0;
}

static struct epoll_event interest(int fd, int events, uint32_t generation) {
  struct epoll_event event = {0};
  if (events & YAVM_READABLE) event.events |= EPOLLIN;
  if (events & YAVM_WRITABLE) event.events |= EPOLLOUT;
  event.data.u64 = (uint64_t)generation << 32 | (uint32_t)fd;
  return event;
}

int yavm_loop_watch(int fd, int events, yavm_loop_callback callback, void* data) {
  if (fd < 0) return -EBADF;
  if (callback == NULL || events == 0 || (events & ~(YAVM_READABLE | YAVM_WRITABLE)) != 0) return -EINVAL;
  const int reserved = reserve_watch(fd);
  if (reserved < 0) return reserved;
  struct watch* watch = &watches[fd];
  const bool is_new = watch->callback == NULL;
  if (is_new || watch->events != events) {
    struct epoll_event event = interest(fd, events, watch->generation);
    if (epoll_ctl(epoll_fd, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0) return -errno;
  }
  if (is_new) watch_count++;
  watch->callback = callback;
  watch->data = data;
  watch->events = (uint8_t)events;
  return 0;
}

void yavm_loop_unwatch(int fd) {
  if (fd < 0 || fd >= watch_capacity || watches[fd].callback == NULL) return;
  // Fails only for a descriptor that was closed first: then the kernel has forgotten it already.
  epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  watches[fd].callback = NULL;
  watches[fd].data = NULL;
  watches[fd].generation++;
  watch_count--;
}

int yavm_loop_defer(yavm_loop_callback callback, void* data) {
  struct deferred* entry = malloc(sizeof(*entry));
  if (entry == NULL) return -ENOMEM;
  *entry = (struct deferred){NULL, callback, data};
  *deferred_end = entry;
  deferred_end = &entry->next;
  return 0;
}

static void call(yavm_loop_callback callback, void* data, int events) {
  engine_begin_callback();
  const size_t mark = addon_enter();
  callback(data, events);
  addon_leave(mark);
  engine_settle();
}

static void dispatch(const struct epoll_event* event) {
  const int fd = (int)(uint32_t)event->data.u64;
  const struct watch* watch = &watches[fd];
  if (watch->callback == NULL || watch->generation != (uint32_t)(event->data.u64 >> 32)) return;
  int events = 0;
  if (event->events & (EPOLLIN | EPOLLERR | EPOLLHUP)) events |= YAVM_READABLE;
  if (event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) events |= YAVM_WRITABLE;
  call(watch->callback, watch->data, events);
}

// Runs what was deferred before this moment; what these callbacks defer comes after the next look at the descriptors.
static void run_deferred(void) {
  struct deferred* entry = deferred_first;
  deferred_first = NULL;
  deferred_end = &deferred_first;
  while (entry != NULL) {
    struct deferred* next = entry->next;
    call(entry->callback, entry->data, 0);
    free(entry);
    entry = next;
  }
}

void loop_run(bool forever) {
  struct epoll_event events[BATCH];
  while (forever || watch_count > 0 || deferred_first != NULL || timers_timeout() >= 0) {
    const int timeout = deferred_first != NULL ? 0 : timers_timeout();
    const int count = epoll_wait(epoll_fd, events, BATCH, timeout);
    if (count < 0 && errno != EINTR) fatal_text(ENGINE_EXIT_CRASH, "epoll_wait failed");
    timers_run();
    for (int index = 0; index < count; index++) dispatch(&events[index]);
    if (deferred_first != NULL) run_deferred();
  }
}
