// libstdc++'s system header, for musl. The distribution's g++ brings the one for glibc, which asks glibc's
// __GLIBC_PREREQ what its libc can do; musl defines no such macro, and none of the answers is needed.
#pragma once

#define __NO_CTYPE 1
#define __GLIBC_PREREQ(major, minor) 0
