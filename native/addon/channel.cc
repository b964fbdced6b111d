#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "error.h"
#include "loop.h"
#include "sink.h"
#include "source.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// How a write or read on a connection says that the other side is gone. ENODEV: the port was unplugged.
bool MeansClosed(int error) {
  return error == EPIPE || error == ECONNRESET || error == ENOTCONN || error == ENODEV;
}

}  // namespace

Channel::Channel(int handle, int fd, uint32_t max_payload, size_t max_queued)
    : handle_(handle), fd_(fd), max_payload_(max_payload), max_queued_(max_queued) {}

Channel::~Channel() {
  if (fd_ >= 0) close(fd_);
}

int Channel::Start() {
  const int flags = fcntl(fd_, F_GETFL);
  int error = flags < 0 || fcntl(fd_, F_SETFL, flags | O_NONBLOCK) < 0 ? errno : 0;
  if (error == 0) error = -Watch(false);
  if (error) fd_ = -1;
  return error;
}

int Channel::Watch(bool writable) {
  return yavm_loop_watch(fd_, writable ? YAVM_READABLE | YAVM_WRITABLE : YAVM_READABLE, OnReady, this);
}

void Channel::OnReady(void* data, int events) {
  Entry entry(Entry::From::kLoop);
  Channel* channel = static_cast<Channel*>(data);
  if ((events & YAVM_WRITABLE) && channel->blocked_) channel->Flush();
  if ((events & YAVM_READABLE) && !channel->ended_) channel->ReadInput();
}

void Channel::Deliver() {
  if (closed_) return;
  napi_env env = CurrentEnv();
  on_end.Call({MakeText(env, end_reason_), MakeText(env, end_message_)});
}

void Channel::Close() {
  const bool running = !ended_;
  ended_ = true;
  closed_ = true;
  if (running) yavm_loop_unwatch(fd_);
  EndStreams(ECANCELED);
  close(fd_);
  fd_ = -1;
  on_frame.Reset();
  on_end.Reset();
  Bury(this);
}

void Channel::End(const char* reason, const std::string& message) {
  if (ended_) return;
  ended_ = true;
  end_reason_ = reason;
  end_message_ = message;
  // A port whose host is gone reports a hang-up for ever: without this the loop would spin.
  yavm_loop_unwatch(fd_);
  EndStreams(EPIPE);
  Announce(this);
}

void Channel::EndByErrno(const char* call, int error) {
  End(MeansClosed(error) ? "closed" : "error", std::string(ErrnoName(error)) + ": " + ErrnoText(error) + ", " + call);
}

// Nothing can be sent any more, so nothing may be kept that waits for it.
void Channel::EndStreams(int error) {
  while (!sources.empty()) sources.begin()->second->Finish(error, "channel");
  while (!sinks.empty()) sinks.begin()->second->Finish(error, "channel");
  if (bulk_source_) bulk_source_->ChannelGone();
  bulk_source_ = nullptr;
  bulk_at_ = bulk_end_ = 0;
  pages_left_ = 0;
  ReleaseBulk();
  ready_.clear();
  due_.clear();
  data_sink_ = nullptr;
}

void Channel::Remove(Source* source) {
  sources.erase(source->stream());
  NotReady(source);
  if (sources.empty() && !bulk_source_) ReleaseBulk();
}

void Channel::Remove(Sink* sink) {
  sinks.erase(sink->stream());
  due_.erase(std::remove(due_.begin(), due_.end(), sink), due_.end());
  if (data_sink_ == sink) data_sink_ = nullptr;
}

}  // namespace yavm
