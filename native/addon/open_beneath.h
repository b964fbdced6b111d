// openat2(2) that cannot leave a directory.
#pragma once

#include <sys/types.h>

#include <string>

namespace yavm {

// RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS. A descriptor (close-on-exec), or -1 with errno.
int OpenInRoot(int root, const std::string& path, int flags, mode_t mode);

}  // namespace yavm
