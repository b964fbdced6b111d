// exchange: two names of a file system change places at once. Node's alone.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "value.h"

namespace yavm {

Napi::Value Exchange(const Napi::CallbackInfo& info) {
  Args args(info, "exchange");
  const std::string one = args.Text(0, "one");
  const std::string other = args.Text(1, "other");
  if (!args.Ok()) return Nothing();
  // By its number: not every C library has a function for it.
  const long done = syscall(SYS_renameat2, AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
  if (done < 0) return Fail(args.Env(), errno, "renameat2", other);
  return Nothing();
}

}  // namespace yavm
