// Channels, sources and sinks by the number that JavaScript knows them by. Numbers are not used again.
#pragma once

namespace yavm {

class Channel;
class Source;
class Sink;

// Null for an unknown number.
Channel* FindChannel(int handle);
void ForgetSource(int handle);
void ForgetSink(int handle);

// Closes everything of this thread without a callback: its environment ends.
void CloseAllStreams();

}  // namespace yavm
