// Kernel modules.
#include <errno.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// MODULE_INIT_IGNORE_MODVERSIONS, _IGNORE_VERMAGIC, _COMPRESSED_FILE.
constexpr int64_t kModuleFlags = 1 | 2 | 4;

}  // namespace

Napi::Value LoadModule(const Napi::CallbackInfo& info) {
  Args args(info, "loadModule");
  const int fd = args.Fd(0, "fd");
  const std::string parameters = args.Text(1, "parameters");
  const int flags = static_cast<int>(args.Integer(2, "flags", 0, kModuleFlags));
  if (!args.Ok()) return Nothing();
  if (syscall(SYS_finit_module, fd, parameters.c_str(), flags) < 0) {
    return Fail(args.Env(), errno, "finit_module");
  }
  return Nothing();
}

Napi::Value DeleteModule(const Napi::CallbackInfo& info) {
  Args args(info, "deleteModule");
  const std::string name = args.Text(0, "name");
  const int flags = static_cast<int>(args.Integer(1, "flags", 0, INT32_MAX));
  if (!args.Ok()) return Nothing();
  if (syscall(SYS_delete_module, name.c_str(), flags) < 0) return Fail(args.Env(), errno, "delete_module", name);
  return Nothing();
}

}  // namespace yavm
