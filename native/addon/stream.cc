// channelOpen … sinkStop: the exports, and the table of what they name.
#include <errno.h>

#include <map>

#include "args.h"
#include "channel.h"
#include "error.h"
#include "exports.h"
#include "frames.h"
#include "sink.h"
#include "source.h"
#include "stream_table.h"
#include "value.h"

namespace yavm {
namespace {

constexpr size_t kMaxChannels = 256;
constexpr int64_t kMaxPayload = 16 << 20;
constexpr int64_t kMaxQueued = 1 << 30;
constexpr int64_t kMaxWindow = 16 << 20;

struct Tables {
  int last = 0;
  std::map<int, Channel*> channels;
  std::map<int, Source*> sources;
  std::map<int, Sink*> sinks;
};
thread_local Tables tables;

template <typename Kind>
Kind* Find(const std::map<int, Kind*>& table, int handle) {
  auto found = table.find(handle);
  return found == table.end() ? nullptr : found->second;
}

int HandleArg(Args& args, size_t index, const char* name) {
  return static_cast<int>(args.Integer(index, name, 0, INT32_MAX));
}

// The channel that an argument names and that still runs; else throws.
Channel* RunningChannel(Args& args, const char* call) {
  const int handle = HandleArg(args, 0, "channel");
  if (!args.Ok()) return nullptr;
  Channel* channel = Find(tables.channels, handle);
  if (!channel || channel->ended()) {
    Fail(args.Env(), channel ? EPIPE : EBADF, call);
    return nullptr;
  }
  return channel;
}

}  // namespace

Channel* FindChannel(int handle) { return Find(tables.channels, handle); }
void ForgetSource(int handle) { tables.sources.erase(handle); }
void ForgetSink(int handle) { tables.sinks.erase(handle); }

void CloseAllStreams() {
  std::map<int, Channel*> channels;
  channels.swap(tables.channels);
  for (auto& entry : channels) entry.second->Close();
}

// ---------------------------------------------------------------- channel

Napi::Value ChannelOpen(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "channelOpen");
  const int fd = args.Fd(0, "fd");
  napi_value options = args.Object(1, "options");
  const int64_t payload = args.IntegerOf(args.Property(options, "maxPayload"), "maxPayload", 1, kMaxPayload);
  const int64_t queued = args.IntegerOf(args.Property(options, "maxQueued"), "maxQueued", 0, kMaxQueued);
  napi_value on_frame = args.CallbackOf(args.Property(options, "onFrame"), "onFrame");
  napi_value on_end = args.CallbackOf(args.Property(options, "onEnd"), "onEnd");
  if (!args.Ok()) return Nothing();
  if (tables.channels.size() >= kMaxChannels) return Fail(args.Env(), EMFILE, "channelOpen");
  Channel* channel = new Channel(++tables.last, fd, static_cast<uint32_t>(payload), static_cast<size_t>(queued));
  const int error = channel->Start();
  if (error) {
    delete channel;
    return Fail(args.Env(), error, "channelOpen");
  }
  channel->on_frame.Set(on_frame);
  channel->on_end.Set(on_end);
  tables.channels[channel->handle()] = channel;
  return Number(args.Env(), channel->handle());
}

Napi::Value ChannelSend(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "channelSend");
  const uint8_t type = static_cast<uint8_t>(args.Integer(1, "type", 0, UINT8_MAX));
  const uint32_t stream = args.Unsigned(2, "stream");
  const Bytes payload = args.Buffer(3, "payload");
  Channel* channel = RunningChannel(args, "channelSend");
  if (!channel) return Nothing();
  if (payload.size > channel->max_payload()) return Fail(args.Env(), EMSGSIZE, "channelSend");
  if (!channel->Send(type, stream, payload.data, payload.size)) return Fail(args.Env(), ENOBUFS, "channelSend");
  return Nothing();
}

Napi::Value ChannelQueued(const Napi::CallbackInfo& info) {
  Args args(info, "channelQueued");
  const int handle = HandleArg(args, 0, "channel");
  if (!args.Ok()) return Nothing();
  Channel* channel = Find(tables.channels, handle);
  if (!channel) return Fail(args.Env(), EBADF, "channelQueued");
  return Number(args.Env(), static_cast<double>(channel->Queued()));
}

Napi::Value ChannelClose(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "channelClose");
  const int handle = HandleArg(args, 0, "channel");
  Channel* channel = args.Ok() ? Find(tables.channels, handle) : nullptr;
  if (!channel) return Nothing();
  tables.channels.erase(handle);
  channel->Close();
  return Nothing();
}

// ---------------------------------------------------------------- source

Napi::Value SourceOpen(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "sourceOpen");
  const uint32_t stream = args.Unsigned(1, "stream");
  const int fd = args.Fd(2, "fd");
  const uint32_t credit = args.Unsigned(3, "credit");
  napi_value on_end = args.Callback(4, "onEnd");
  Channel* channel = RunningChannel(args, "sourceOpen");
  if (!channel) return Nothing();
  if (channel->sources.size() >= kMaxStreams) return Fail(args.Env(), EMFILE, "sourceOpen");
  if (channel->sources.count(stream)) return Fail(args.Env(), EEXIST, "sourceOpen");
  Source* source = new Source(channel, ++tables.last, stream, fd, credit);
  const int error = source->Start();
  if (error) {
    delete source;
    return Fail(args.Env(), error, "sourceOpen");
  }
  source->on_end.Set(on_end);
  channel->sources[stream] = source;
  tables.sources[source->handle()] = source;
  return Number(args.Env(), source->handle());
}

Napi::Value SourceSent(const Napi::CallbackInfo& info) {
  Args args(info, "sourceSent");
  const int handle = HandleArg(args, 0, "source");
  if (!args.Ok()) return Nothing();
  Source* source = Find(tables.sources, handle);
  if (!source) return Fail(args.Env(), EBADF, "sourceSent");
  return Number(args.Env(), static_cast<double>(source->sent()));
}

Napi::Value SourceDrain(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "sourceDrain");
  const int handle = HandleArg(args, 0, "source");
  napi_value callback = args.Callback(1, "callback");
  if (!args.Ok()) return Nothing();
  Source* source = Find(tables.sources, handle);
  if (!source) return Fail(args.Env(), EBADF, "sourceDrain");
  if (!source->Drain(callback)) return Fail(args.Env(), ENOBUFS, "sourceDrain");
  return Nothing();
}

Napi::Value SourceStop(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "sourceStop");
  const int handle = HandleArg(args, 0, "source");
  Source* source = args.Ok() ? Find(tables.sources, handle) : nullptr;
  if (source) source->Finish(0, nullptr);
  return Nothing();
}

// ---------------------------------------------------------------- sink

Napi::Value SinkOpen(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "sinkOpen");
  const uint32_t stream = args.Unsigned(1, "stream");
  const int fd = args.Fd(2, "fd");
  const uint32_t window = static_cast<uint32_t>(args.Integer(3, "window", 1, kMaxWindow));
  const int eof_byte = static_cast<int>(args.Integer(4, "eofByte", -1, UINT8_MAX));
  napi_value on_end = args.Callback(5, "onEnd");
  Channel* channel = RunningChannel(args, "sinkOpen");
  if (!channel) return Nothing();
  if (channel->sinks.size() >= kMaxStreams) return Fail(args.Env(), EMFILE, "sinkOpen");
  if (channel->sinks.count(stream)) return Fail(args.Env(), EEXIST, "sinkOpen");
  Sink* sink = new Sink(channel, ++tables.last, stream, fd, window, eof_byte);
  const int error = sink->Start();
  if (error) {
    delete sink;
    return Fail(args.Env(), error, "sinkOpen");
  }
  sink->on_end.Set(on_end);
  channel->sinks[stream] = sink;
  tables.sinks[sink->handle()] = sink;
  const int handle = sink->handle();
  // The first credit tells the peer that its bytes will find somebody: it may be numbered by a message on another port.
  channel->Grant(sink);
  return Number(args.Env(), handle);
}

Napi::Value SinkStop(const Napi::CallbackInfo& info) {
  Entry entry(Entry::From::kJavaScript);
  Args args(info, "sinkStop");
  const int handle = HandleArg(args, 0, "sink");
  Sink* sink = args.Ok() ? Find(tables.sinks, handle) : nullptr;
  if (sink) sink->Finish(0, nullptr);
  return Nothing();
}

}  // namespace yavm
