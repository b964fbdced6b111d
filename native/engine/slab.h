// Small blocks for the JS heap.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Largest block, bytes.
#define SLAB_LARGEST 1024

// Makes the reservation. Without it (no memory for its page table entries) every slab_alloc() returns NULL.
void slab_start(void);
// A block of at least `size` (1 … SLAB_LARGEST) bytes, aligned to 16. NULL: none left.
void* slab_alloc(size_t size);
void slab_free(void* block);
// Whether slab_alloc() made this block.
bool slab_owns(const void* block);
// Bytes that may be used of a block.
size_t slab_usable_size(const void* block);
