// Whole small files in one call. The agent reads some for every command (cgroup figures), and under emulation each
// crossing between JS and the addon costs as much as the system call itself.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "open_beneath.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

constexpr int64_t kMaxFile = 16 * 1024 * 1024;
// Nearly every file of proc, sys and cgroup; a read that does not fill it is taken as a sign that the next one ends it.
constexpr size_t kChunk = 4096;

// Beneath the directory `root`, or the plain path when that is -1. A descriptor, or -1 with errno.
int OpenText(int root, const std::string& path, int flags) {
  if (root >= 0) return OpenInRoot(root, path, flags, 0);
  return static_cast<int>(Retry([&] { return open(path.c_str(), flags | O_CLOEXEC); }));
}

// Appends to `text` until the end of the file or `maximum` bytes. 0 or an errno.
int ReadAll(int fd, size_t maximum, std::string* text) {
  char chunk[kChunk];
  while (text->size() < maximum) {
    const size_t want = maximum - text->size() < sizeof chunk ? maximum - text->size() : sizeof chunk;
    const ssize_t count = Retry([&] { return read(fd, chunk, want); });
    if (count < 0) return errno;
    if (count == 0) break;
    text->append(chunk, static_cast<size_t>(count));
  }
  return 0;
}

}  // namespace

Napi::Value ReadText(const Napi::CallbackInfo& info) {
  Args args(info, "readText");
  const int root = static_cast<int>(args.Integer(0, "rootFd", -1, INT32_MAX));
  const std::string path = args.Text(1, "path");
  const size_t maximum = static_cast<size_t>(args.Integer(2, "maximum", 1, kMaxFile));
  if (!args.Ok()) return Nothing();
  const int fd = OpenText(root, path, O_RDONLY);
  if (fd < 0) return Fail(args.Env(), errno, "open", path);
  std::string text;
  const int error = ReadAll(fd, maximum, &text);
  close(fd);
  if (error) return Fail(args.Env(), error, "read", path);
  return Napi::Value(args.Env(), MakeText(args.Env(), text));
}

Napi::Value WriteText(const Napi::CallbackInfo& info) {
  Args args(info, "writeText");
  const int root = static_cast<int>(args.Integer(0, "rootFd", -1, INT32_MAX));
  const std::string path = args.Text(1, "path");
  const std::string text = args.Text(2, "text");
  if (!args.Ok()) return Nothing();
  const int fd = OpenText(root, path, O_WRONLY);
  if (fd < 0) return Fail(args.Env(), errno, "open", path);
  // One write(2): kernel files take a value whole or not at all.
  const ssize_t count = Retry([&] { return write(fd, text.data(), text.size()); });
  const int error = count < 0 ? errno : 0;
  close(fd);
  if (error) return Fail(args.Env(), error, "write", path);
  return Nothing();
}

}  // namespace yavm
