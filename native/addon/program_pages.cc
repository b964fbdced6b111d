// dropProgramPages: what a program needed only to start does not stay in its memory.
#include <errno.h>
#include <link.h>
#include <sys/mman.h>

#include "error.h"
#include "exports.h"
#include "value.h"

namespace yavm {
namespace {

constexpr uintptr_t kPage = 4096;

// Never a segment that can be written: what was changed in it would be lost.
int DropSegments(struct dl_phdr_info* program, size_t, void* error) {
  for (int i = 0; i < program->dlpi_phnum; i++) {
    const auto& segment = program->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W)) continue;
    const uintptr_t start = (program->dlpi_addr + segment.p_vaddr + kPage - 1) / kPage * kPage;
    const uintptr_t end = (program->dlpi_addr + segment.p_vaddr + segment.p_filesz) / kPage * kPage;
    if (end <= start) continue;
    if (madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED) < 0) *static_cast<int*>(error) = errno;
  }
  // The program itself comes first; its libraries are shared with others anyway.
  return 1;
}

}  // namespace

Napi::Value DropProgramPages(const Napi::CallbackInfo& info) {
  int error = 0;
  dl_iterate_phdr(DropSegments, &error);
  if (error) return Fail(info.Env(), error, "madvise");
  return Nothing();
}

}  // namespace yavm
