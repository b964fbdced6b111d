// QuickJS's allocator: libc's malloc with a limit, and a note of the first refusal, because QuickJS turns some of
// them into `throw null`, which says nothing.
#include <malloc.h>
#include <stdlib.h>

#include "engine.h"

// What malloc itself is taken to need for a block, as QuickJS's own allocator counts it.
#define BLOCK_OVERHEAD 8

static bool exhausted;

bool heap_exhausted(void) { return exhausted; }

static void* refuse(void) {
  exhausted = true;
  return NULL;
}

static void* heap_malloc(JSMallocState* state, size_t size) {
  if (state->malloc_size + size > state->malloc_limit) return refuse();
  void* block = malloc(size);
  if (block == NULL) return refuse();
  state->malloc_count++;
  state->malloc_size += malloc_usable_size(block) + BLOCK_OVERHEAD;
  return block;
}

static void heap_free(JSMallocState* state, void* block) {
  if (block == NULL) return;
  state->malloc_count--;
  state->malloc_size -= malloc_usable_size(block) + BLOCK_OVERHEAD;
  free(block);
}

static void* heap_realloc(JSMallocState* state, void* block, size_t size) {
  if (block == NULL) return size == 0 ? NULL : heap_malloc(state, size);
  if (size == 0) {
    heap_free(state, block);
    return NULL;
  }
  const size_t old = malloc_usable_size(block);
  if (size > old && state->malloc_size + (size - old) > state->malloc_limit) return refuse();
  void* moved = realloc(block, size);
  if (moved == NULL) return refuse();
  state->malloc_size += malloc_usable_size(moved) - old;
  return moved;
}

static size_t heap_usable_size(const void* block) { return malloc_usable_size((void*)block); }

const JSMallocFunctions heap_functions = {heap_malloc, heap_free, heap_realloc, heap_usable_size};
