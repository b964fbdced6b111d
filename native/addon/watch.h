// The watches of JavaScript.
#pragma once

namespace yavm {

// Forgets every watch of this thread: its environment ends. The descriptors stay open, they are not ours.
void CloseAllWatches();

}  // namespace yavm
