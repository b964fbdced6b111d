// QuickJS's allocator: small blocks from slab.c, large ones from libc, and a limit over both.
//
// A refused allocation becomes a JS exception, for which QuickJS needs memory: without any it throws null or even
// crashes. So each refusal opens a little room beyond the limit, for the error and for what handles it. A program that
// goes on to use up this room too, up to HARD_LIMIT, is ended from here.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "slab.h"

#ifdef __SANITIZE_ADDRESS__
// The sanitizer watches libc's blocks.
#define SMALL_LIMIT 0
#else
#define SMALL_LIMIT SLAB_LARGEST
#endif

// Bound of the JS heap, bytes. An agent that passes bulk data holds a few MB (windows of 256 KiB a stream); the
// smallest machine that boots has 72 MiB in all, of which some 30 MiB are free for it.
#define LIMIT (24u * 1024 * 1024)
#define HARD_LIMIT (LIMIT + 1024 * 1024)
// What a refusal opens, bytes: an error and its stack take some KB.
#define ERROR_ROOM (32 * 1024)
// The room closes when this much is free below the limit again.
#define RELIEF (64 * 1024)

static bool exhausted;
// Bytes in use. QuickJS counts them too, but tells only after a walk through the whole heap.
static size_t in_use;
static size_t allowed = LIMIT;

size_t heap_in_use(void) { return in_use; }

bool heap_exhausted(void) { return exhausted; }

void heap_start(void) { slab_start(); }

static void count(JSMallocState* state, size_t bytes) {
  state->malloc_size += bytes;
  in_use = state->malloc_size;
}

// What the last words may need is always there.
void heap_lift_limit(void) { allowed = SIZE_MAX; }

static bool fits(size_t bytes) { return bytes <= allowed && in_use <= allowed - bytes; }

static void* refuse(size_t bytes) {
  exhausted = true;
  const size_t room = in_use + ERROR_ROOM;
  if (allowed < room) allowed = room;
  // A large request says nothing of the small ones that the error needs.
  if (allowed > HARD_LIMIT && bytes < ERROR_ROOM) {
    heap_lift_limit();
    fatal_text(ENGINE_EXIT_MEMORY, "out of memory: the JavaScript heap is exhausted");
  }
  return NULL;
}

static void* fail(void) {
  heap_lift_limit();
  fatal_text(ENGINE_EXIT_MEMORY, "out of memory: the system has none left");
}

static size_t heap_usable_size(const void* block) {
  if (block == NULL) return 0;
  return slab_owns(block) ? slab_usable_size(block) : malloc_usable_size((void*)block);
}

static void* heap_malloc(JSMallocState* state, size_t size) {
  if (!fits(size)) return refuse(size);
  void* block = size <= SMALL_LIMIT ? slab_alloc(size) : NULL;
  if (block == NULL) block = malloc(size);
  if (block == NULL) return fail();
  state->malloc_count++;
  count(state, heap_usable_size(block));
  return block;
}

static void heap_free(JSMallocState* state, void* block) {
  if (block == NULL) return;
  state->malloc_count--;
  count(state, -heap_usable_size(block));
  if (slab_owns(block)) {
    slab_free(block);
  } else {
    free(block);
  }
  if (allowed != LIMIT && in_use < LIMIT - RELIEF && allowed != SIZE_MAX) allowed = LIMIT;
}

// Between libc's blocks libc may move the pages; everything else is copied.
static void* heap_realloc(JSMallocState* state, void* block, size_t size) {
  if (block == NULL) return size == 0 ? NULL : heap_malloc(state, size);
  if (size == 0) {
    heap_free(state, block);
    return NULL;
  }
  const size_t old = heap_usable_size(block);
  const bool is_small = slab_owns(block);
  if (is_small && size <= old && size > old / 2) return block;
  if (is_small || size <= SMALL_LIMIT) {
    void* moved = heap_malloc(state, size);
    if (moved == NULL) return NULL;
    memcpy(moved, block, old < size ? old : size);
    heap_free(state, block);
    return moved;
  }
  if (size > old && !fits(size - old)) return refuse(size - old);
  void* moved = realloc(block, size);
  if (moved == NULL) return fail();
  count(state, heap_usable_size(moved) - old);
  return moved;
}

const JSMallocFunctions heap_functions = {heap_malloc, heap_free, heap_realloc, heap_usable_size};
