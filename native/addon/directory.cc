// The entries of an open directory.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "name.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// More entries than this are refused with EOVERFLOW: the list is built in memory, and anyone may fill a directory.
constexpr uint32_t kMaxEntries = 1 << 20;
constexpr size_t kChunk = 32 * 1024;

// struct linux_dirent64 before its name.
struct EntryHead {
  uint64_t ino;
  int64_t offset;
  uint16_t length;
  uint8_t type;
} __attribute__((packed));

bool IsDot(const char* name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

// Some file systems leave the type out. An entry that vanished meanwhile counts as a regular file.
uint8_t LookUpType(int fd, const char* name) {
  struct stat stat;
  if (fstatat(fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0) return DT_REG;
  return static_cast<uint8_t>((stat.st_mode & S_IFMT) >> 12);
}

}  // namespace

Napi::Value ReadDirectory(const Napi::CallbackInfo& info) {
  Args args(info, "readDirectory");
  const int fd = args.Fd(0, "fd");
  if (!args.Ok()) return Nothing();
  if (lseek(fd, 0, SEEK_SET) < 0) return Fail(args.Env(), errno, "lseek");
  napi_value list = MakeArray(args.Env(), 0);
  uint32_t count = 0;
  std::vector<char> chunk(kChunk);
  for (;;) {
    const long size = syscall(SYS_getdents64, fd, chunk.data(), chunk.size());
    if (size < 0) return Fail(args.Env(), errno, "getdents64");
    if (size == 0) return Napi::Value(args.Env(), list);
    for (long at = 0; at < size;) {
      EntryHead head;
      memcpy(&head, chunk.data() + at, sizeof head);
      const char* name = chunk.data() + at + sizeof head;
      at += head.length;
      if (IsDot(name)) continue;
      if (count == kMaxEntries) return Fail(args.Env(), EOVERFLOW, "getdents64");
      napi_handle_scope scope = nullptr;
      napi_open_handle_scope(args.Env(), &scope);
      napi_value entry = MakeObject(args.Env());
      SetValue(args.Env(), entry, "name", MakeName(args.Env(), name, strlen(name)));
      SetNumber(args.Env(), entry, "type", head.type == DT_UNKNOWN ? LookUpType(fd, name) : head.type);
      SetElement(args.Env(), list, count++, entry);
      napi_close_handle_scope(args.Env(), scope);
    }
  }
}

}  // namespace yavm
