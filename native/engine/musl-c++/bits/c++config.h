// The distribution's configuration of libstdc++, less the two functions that glibc has and musl has not, and with
// std::string's functions compiled where they are used: linked, they bring the whole class and its exceptions.
#pragma once

#include_next <bits/c++config.h>

#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK

#undef _GLIBCXX_EXTERN_TEMPLATE
#define _GLIBCXX_EXTERN_TEMPLATE 0
