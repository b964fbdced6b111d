// What libstdc++ would bring, so that it is not linked: its versions throw exceptions, and pull in 150 KB with them.
#include <cstddef>
#include <cstdlib>
#include <new>

extern "C" {
#include "engine.h"
}

static void* allocate(std::size_t size) {
  void* block = std::malloc(size == 0 ? 1 : size);
  if (block == nullptr) fatal_text(ENGINE_EXIT_MEMORY, "out of memory in native code");
  return block;
}

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size == 0 ? 1 : size); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }

namespace std {

// Failed checks of the containers; nobody catches exceptions here.
void __throw_bad_alloc() { fatal_text(ENGINE_EXIT_MEMORY, "std::bad_alloc"); }
void __throw_bad_array_new_length() { fatal_text(ENGINE_EXIT_CRASH, "std::bad_array_new_length"); }
void __throw_bad_function_call() { fatal_text(ENGINE_EXIT_CRASH, "std::bad_function_call"); }
void __throw_bad_cast() { fatal_text(ENGINE_EXIT_CRASH, "std::bad_cast"); }
void __throw_invalid_argument(const char* what) { fatal_text(ENGINE_EXIT_CRASH, what); }
void __throw_length_error(const char* what) { fatal_text(ENGINE_EXIT_CRASH, what); }
void __throw_logic_error(const char* what) { fatal_text(ENGINE_EXIT_CRASH, what); }
void __throw_out_of_range(const char* what) { fatal_text(ENGINE_EXIT_CRASH, what); }
void __throw_out_of_range_fmt(const char* format, ...) { fatal_text(ENGINE_EXIT_CRASH, format); }
void __throw_system_error(int) { fatal_text(ENGINE_EXIT_CRASH, "std::system_error"); }

}  // namespace std

// A call through the table of an object whose class is abstract.
extern "C" void __cxa_pure_virtual() { fatal_text(ENGINE_EXIT_CRASH, "pure virtual function called"); }

// Destructors of thread_local objects. There is one thread, and it ends with the process.
extern "C" int __cxa_thread_atexit(void (*)(void*), void*, void*) { return 0; }
