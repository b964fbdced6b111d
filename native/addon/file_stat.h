#pragma once

#include <napi.h>
#include <sys/stat.h>
#include <time.h>

namespace yavm {

// FileStat of native/face.ts.
napi_value StatObject(napi_env env, const struct stat& stat);

// Seconds with fraction since the epoch. False: no file system holds such a time.
bool TimeOf(double seconds, struct timespec* time);

}  // namespace yavm
