#pragma once

#include <napi.h>
#include <sys/stat.h>

namespace yavm {

// FileStat of native/face.ts.
napi_value StatObject(napi_env env, const struct stat& stat);

}  // namespace yavm
