// Small blocks for the JS heap, which consists of thousands of them.
//
// musl's malloc takes them in groups of a few, each group a mapping of its own: some 150 system calls before the
// agent's first line runs, and a fifth of its start. Here a page of 4 KiB holds blocks of one size, without headers;
// what is known of a page lies in a table beside them. A page that becomes empty serves another size, or goes back to
// the kernel when enough of them wait.
#include "slab.h"

#include <stdint.h>
#include <sys/mman.h>

#define PAGE_SIZE 4096
// Address space, not memory: more than runtime.c lets the heap grow to.
#define RESERVED (32 * 1024 * 1024)
#define PAGE_COUNT (RESERVED / PAGE_SIZE)
// What loading the agent takes at once, bytes: given in one call instead of by one page fault each.
#define POPULATED (512 * 1024)
// Empty pages that keep their memory.
#define SPARE_PAGES 16

// No page, no block.
#define NONE UINT16_MAX

static const uint16_t sizes[] = {16,  32,  48,  64,  80,  96,  112, 128, 144, 160, 176, 192,
                                 208, 224, 240, 256, 320, 384, 448, 512, 640, 768, SLAB_LARGEST};
#define CLASS_COUNT (sizeof(sizes) / sizeof(sizes[0]))

struct page {
  uint16_t next;      // In the list of its class, or of empty pages.
  uint16_t previous;  // In the list of its class.
  uint16_t free;      // First block that was freed: its number in the page. Each holds the number of the next.
  uint16_t fresh;     // Blocks from this number on were never used.
  uint16_t live;
  uint8_t class;
};

static unsigned char* base;
static struct page pages[PAGE_COUNT];
// Pages used so far, from the bottom.
static uint16_t page_count;
// By class: pages that have room.
static uint16_t roomy[CLASS_COUNT];
// Empty pages, and how many of them still have memory: those at the front.
static uint16_t empty = NONE;
static unsigned spare_count;
// Class by size, in steps of 16.
static uint8_t class_of_size[SLAB_LARGEST / 16 + 1];

void slab_start(void) {
  for (size_t class = 0, step = 0; class < CLASS_COUNT; class++) {
    roomy[class] = NONE;
    while (step * 16 <= sizes[class]) class_of_size[step++] = (uint8_t)class;
  }
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* region = mmap(NULL, RESERVED, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (region == MAP_FAILED) return;
  // A huge page would be more memory at once than the agent may use.
  madvise(region, RESERVED, MADV_NOHUGEPAGE);
#ifdef MADV_POPULATE_WRITE
  madvise(region, POPULATED, MADV_POPULATE_WRITE);  // Best effort: kernels before 5.14 fault the pages in instead.
#endif
  base = region;
}

bool slab_owns(const void* block) { return (size_t)((const unsigned char*)block - base) < RESERVED && base != NULL; }

static size_t page_of(const void* block) { return (size_t)((const unsigned char*)block - base) / PAGE_SIZE; }

static unsigned char* page_start(size_t number) { return base + number * PAGE_SIZE; }

size_t slab_usable_size(const void* block) { return sizes[pages[page_of(block)].class]; }

static unsigned blocks_in_page(unsigned class) { return PAGE_SIZE / sizes[class]; }

static bool is_full(const struct page* page) {
  return page->free == NONE && page->fresh == blocks_in_page(page->class);
}

static void list_page(uint16_t number) {
  struct page* page = &pages[number];
  page->previous = NONE;
  page->next = roomy[page->class];
  if (page->next != NONE) pages[page->next].previous = number;
  roomy[page->class] = number;
}

static void unlist_page(uint16_t number) {
  struct page* page = &pages[number];
  if (page->next != NONE) pages[page->next].previous = page->previous;
  if (page->previous != NONE) {
    pages[page->previous].next = page->next;
  } else {
    roomy[page->class] = page->next;
  }
}

// A page for blocks of `class`, listed. NONE when the reservation is used up.
static uint16_t take_page(unsigned class) {
  uint16_t number = empty;
  if (number != NONE) {
    empty = pages[number].next;
    if (spare_count > 0) spare_count--;
  } else {
    if (base == NULL || page_count == PAGE_COUNT) return NONE;
    number = page_count++;
  }
  pages[number] = (struct page){.free = NONE, .class = (uint8_t)class};
  list_page(number);
  return number;
}

static void give_page_back(uint16_t number) {
  unlist_page(number);
  if (spare_count < SPARE_PAGES) {
    spare_count++;
    pages[number].next = empty;
    empty = number;
    return;
  }
  madvise(page_start(number), PAGE_SIZE, MADV_DONTNEED);
  // Behind the spare ones, which are to be used first.
  uint16_t* link = &empty;
  for (unsigned index = 0; index < spare_count; index++) link = &pages[*link].next;
  pages[number].next = *link;
  *link = number;
}

void* slab_alloc(size_t size) {
  const unsigned class = class_of_size[(size + 15) / 16];
  uint16_t number = roomy[class];
  if (number == NONE) number = take_page(class);
  if (number == NONE) return NULL;
  struct page* page = &pages[number];
  unsigned char* block;
  if (page->free != NONE) {
    block = page_start(number) + (size_t)page->free * sizes[class];
    page->free = *(uint16_t*)(void*)block;
  } else {
    block = page_start(number) + (size_t)page->fresh++ * sizes[class];
  }
  page->live++;
  if (is_full(page)) unlist_page(number);
  return block;
}

void slab_free(void* block) {
  const uint16_t number = (uint16_t)page_of(block);
  struct page* page = &pages[number];
  const bool was_full = is_full(page);
  const size_t offset = (size_t)((unsigned char*)block - page_start(number));
  *(uint16_t*)block = page->free;
  page->free = (uint16_t)(offset / sizes[page->class]);
  page->live--;
  if (was_full) list_page(number);
  if (page->live == 0) give_page_back(number);
}
