// Names of files, which are bytes, as JS text: UTF-8 where they are, and each byte that is not becomes one of
// U+DC80…U+DCFF, which no UTF-8 has (as Python's "surrogateescape"). So any name there is goes out and comes back.
#pragma once

#include <napi.h>

#include <string>

namespace yavm {

napi_value MakeName(napi_env env, const char* bytes, size_t length);

// The bytes of `value`, a string. Lone surrogates that stand for no byte become U+FFFD. False: Node-API failed.
bool NameBytes(napi_env env, napi_value value, std::string* bytes);

// Whether UTF-8 that Node-API made may stand for other bytes: it has U+FFFD for every lone surrogate.
bool MayBeEscaped(const std::string& text);

}  // namespace yavm
