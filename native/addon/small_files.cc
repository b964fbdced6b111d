// Small files, each in as few system calls as there can be, and many of a tar in one call of JavaScript: under emulation the
// interpreter would take longer for each than its file system does.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "file_stat.h"
#include "sys.h"
#include "tar_header.h"
#include "value.h"

namespace yavm {
namespace {

// Content of a file that is written in one go, at most.
constexpr size_t kSmall = 64 * 1024;
constexpr mode_t kPermissions = 07777;
// The largest that is an id: 2^32 - 1 means "no change".
constexpr double kMaxId = 0xFFFFFFFE;

struct NewFile {
  int dir;
  const char* name;
  Bytes content;
  mode_t mode;
  uid_t uid;
  gid_t gid;
  double mtime;
};

int WriteAll(int fd, const Bytes& bytes) {
  size_t done = 0;
  while (done < bytes.size) {
    const ssize_t count = Retry([&] { return write(fd, bytes.data + done, bytes.size - done); });
    if (count < 0) return errno;
    done += static_cast<size_t>(count);
  }
  return 0;
}

// A new file in place of whatever has the name, other than a directory.
int Create(const NewFile& file, mode_t mode, const char** call) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  *call = "openat";
  const int fd = openat(file.dir, file.name, kFlags, mode);
  if (fd >= 0 || errno != EEXIST) return fd;
  *call = "unlinkat";
  if (unlinkat(file.dir, file.name, 0) < 0) return -1;
  *call = "openat";
  return openat(file.dir, file.name, kFlags, mode);
}

// Content, owner, mode and time. Looking is cheaper than setting what is so already.
int Fill(int fd, const NewFile& file, const struct timespec& time, const char** call) {
  const struct timespec times[2] = {time, time};
  struct stat stat;
  *call = "fstat";
  if (fstat(fd, &stat) < 0) return errno;
  *call = "write";
  const int error = WriteAll(fd, file.content);
  if (error) return error;
  // Owner first: a change of owner clears the set-id bits.
  const bool owned = stat.st_uid == file.uid && stat.st_gid == file.gid;
  *call = "fchown";
  if (!owned && fchown(fd, file.uid, file.gid) < 0) return errno;
  *call = "fchmod";
  if ((!owned || (stat.st_mode & kPermissions) != file.mode) && fchmod(fd, file.mode) < 0) return errno;
  *call = "futimens";
  return futimens(fd, times) < 0 ? errno : 0;
}

// 0, or an errno of `call`; then there is no such file.
int Put(const NewFile& file, const char** call) {
  struct timespec time;
  *call = "futimens";
  if (!TimeOf(file.mtime, &time)) return EINVAL;
  // Until it is another's, only root may look at it; and nobody gets set-id bits before the content is complete.
  const bool final = file.uid == 0 && file.gid == 0 && !(file.mode & 07000);
  const int fd = Create(file, final ? file.mode : 0600, call);
  if (fd < 0) return errno;
  const int error = Fill(fd, file, time, call);
  close(fd);
  // Half of a file must not pass for a whole one.
  if (error) unlinkat(file.dir, file.name, 0);
  return error;
}

bool IsId(double number) { return number >= 0 && number <= kMaxId; }

// The name of a file right in the directory that an archive calls `directory` (empty: the one it is unpacked into), or null.
const char* NameIn(const std::string& directory, const std::string& path) {
  const size_t skip = directory.empty() ? 0 : directory.size() + 1;
  if (skip > 0 && (path.compare(0, directory.size(), directory) != 0 || path[directory.size()] != '/')) return nullptr;
  const char* name = path.c_str() + skip;
  const bool plain = *name && path.find('/', skip) == std::string::npos;
  return plain && path.compare(skip, std::string::npos, ".") != 0 && path.compare(skip, std::string::npos, "..") != 0
             ? name
             : nullptr;
}

// Unpacks the entry at the beginning of `bytes`, if it is a small file of that directory and whole. Bytes that it takes, or 0.
size_t PutEntry(int dir, const std::string& directory, const Bytes& bytes) {
  TarHeader header;
  std::string wrong;
  if (bytes.size < kTarBlock || !DecodeTarHeader(bytes.data, &header, &wrong) || header.flag != '0') return 0;
  const double* numbers = header.numbers;
  const char* name = NameIn(directory, header.name);
  const bool small = numbers[kTarSize] >= 0 && numbers[kTarSize] <= static_cast<double>(kSmall);
  if (!name || !small || !IsId(numbers[kTarUid]) || !IsId(numbers[kTarGid])) return 0;
  const size_t size = static_cast<size_t>(numbers[kTarSize]);
  const size_t total = kTarBlock + (size + kTarBlock - 1) / kTarBlock * kTarBlock;
  if (total > bytes.size) return 0;
  NewFile file = {};
  file.dir = dir;
  file.name = name;
  file.content.data = bytes.data + kTarBlock;
  file.content.size = size;
  file.mode = static_cast<mode_t>(static_cast<int64_t>(numbers[kTarMode])) & kPermissions;
  file.uid = static_cast<uid_t>(numbers[kTarUid]);
  file.gid = static_cast<gid_t>(numbers[kTarGid]);
  file.mtime = numbers[kTarMtime];
  const char* call = nullptr;
  return Put(file, &call) == 0 ? total : 0;
}

}  // namespace

Napi::Value PutFile(const Napi::CallbackInfo& info) {
  Args args(info, "putFile");
  NewFile file = {};
  file.dir = args.Fd(0, "dirFd");
  const std::string name = args.Text(1, "name");
  file.name = name.c_str();
  file.content = args.Buffer(2, "bytes");
  file.mode = static_cast<mode_t>(args.Integer(3, "mode", 0, kPermissions));
  file.uid = args.Unsigned(4, "uid");
  file.gid = args.Unsigned(5, "gid");
  file.mtime = args.Number(6, "mtime");
  if (!args.Ok()) return Nothing();
  // One name: a path would be followed wherever it leads.
  if (name.find('/') != std::string::npos) return Fail(args.Env(), EINVAL, "openat", name);
  const char* call = nullptr;
  const int error = Put(file, &call);
  if (error) return Fail(args.Env(), error, call, name);
  return Nothing();
}

Napi::Value PutTarFiles(const Napi::CallbackInfo& info) {
  Args args(info, "putTarFiles");
  const int dir = args.Fd(0, "dirFd");
  const std::string directory = args.Text(1, "directory");
  Bytes bytes = args.Buffer(2, "bytes");
  if (!args.Ok()) return Nothing();
  const size_t all = bytes.size;
  double entries = 0;
  // An entry that fails is left to the caller, who gets the error that belongs to it.
  while (const size_t size = PutEntry(dir, directory, bytes)) {
    bytes.data += size;
    bytes.size -= size;
    entries++;
  }
  return Pair(args.Env(), entries, static_cast<double>(all - bytes.size));
}

}  // namespace yavm
