// QuickJS's allocator: small blocks from slab.c, large ones from libc, a limit over both, and a note of the first
// refusal, because QuickJS turns some of them into `throw null`, which says nothing.
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

static bool exhausted;
// Bytes in use. QuickJS counts them too, but tells only after a walk through the whole heap.
static size_t in_use;

size_t heap_in_use(void) { return in_use; }

bool heap_exhausted(void) { return exhausted; }

void heap_start(void) { slab_start(); }

static void count(JSMallocState* state, size_t bytes) {
  state->malloc_size += bytes;
  in_use = state->malloc_size;
}

static void* refuse(void) {
  exhausted = true;
  return NULL;
}

static size_t heap_usable_size(const void* block) {
  if (block == NULL) return 0;
  return slab_owns(block) ? slab_usable_size(block) : malloc_usable_size((void*)block);
}

static void* heap_malloc(JSMallocState* state, size_t size) {
  if (size > state->malloc_limit || state->malloc_size + size > state->malloc_limit) return refuse();
  void* block = size <= SMALL_LIMIT ? slab_alloc(size) : NULL;
  if (block == NULL) block = malloc(size);
  if (block == NULL) return refuse();
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
  if (size > old && (size > state->malloc_limit || state->malloc_size + (size - old) > state->malloc_limit)) {
    return refuse();
  }
  void* moved = realloc(block, size);
  if (moved == NULL) return refuse();
  count(state, heap_usable_size(moved) - old);
  return moved;
}

const JSMallocFunctions heap_functions = {heap_malloc, heap_free, heap_realloc, heap_usable_size};
