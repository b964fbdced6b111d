#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "channel.h"
#include "error.h"
#include "frames.h"
#include "loop.h"
#include "stream_table.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// Bytes that one source sends before others, and the control channel, get their turn.
constexpr size_t kTurn = 256 * 1024;
// More than a pty can hold that has been written and cannot be read yet: its line buffer (4 KiB), and what the kernel
// still moves there (at most 64 KiB of tty buffers).
constexpr uint64_t kTerminalBacklog = 128 * 1024;
constexpr size_t kMaxWaiters = 64;
constexpr size_t kPage = 4096;
// Capacity of the pipe of a command that writes much. Measured at 2 vCPUs: 256 KiB is 3 % slower.
constexpr size_t kRoom = 1024 * 1024;
// Fewer bytes than this are cheaper copied: a frame of pages takes three more system calls.
constexpr size_t kWorthPages = 16 * 1024;

// Size of a payload with which header and payload fill whole write units.
size_t WholeUnits(size_t payload) {
  const size_t frame = (payload + kFrameHeader) / kWriteUnit * kWriteUnit;
  return frame > 0 ? frame - kFrameHeader : payload;
}

bool Readable(int fd) {
  struct pollfd poll_fd = {fd, POLLIN, 0};
  return poll(&poll_fd, 1, 0) > 0;
}

}  // namespace

Source::Source(Channel* channel, int handle, uint32_t stream, int fd, uint64_t credit)
    : channel_(channel), handle_(handle), stream_(stream), fd_(fd), credit_(credit) {
  // A receiver gives credit back in lumps (of a quarter of the window, say). The crumb that is left after whole units
  // would go out as a frame of its own each time; so it waits for more, which is bound to come: 7/8 of the window are
  // out then.
  quantum_ = std::max<uint64_t>(1, std::min<uint64_t>(kWriteUnit - kFrameHeader, credit / 8));
}

Source::~Source() {
  if (fd_ >= 0) close(fd_);
}

int Source::Start() {
  struct stat stat;
  const int flags = fcntl(fd_, F_GETFL);
  int error = fstat(fd_, &stat) < 0 || flags < 0 || fcntl(fd_, F_SETFL, flags | O_NONBLOCK) < 0 ? errno : 0;
  if (error == 0) {
    pipe_ = S_ISFIFO(stat.st_mode);
    terminal_ = S_ISCHR(stat.st_mode) && isatty(fd_);
    largest_ = std::min<size_t>(kBulk - kFrameHeader, channel_->max_payload());
    // A full pipe is read in whole units too; a pipe of 64 KiB would leave 9 bytes beyond the second.
    const int pipe_size = pipe_ ? fcntl(fd_, F_GETPIPE_SZ) : -1;
    if (pipe_size > 0) largest_ = std::min(largest_, WholeUnits(static_cast<size_t>(pipe_size)));
    error = -yavm_loop_watch(fd_, YAVM_READABLE, OnReadable, this);
    watched_ = error == 0;
    // epoll's answer for what is always ready: regular files, /dev/zero.
    regular_ = error == EPERM;
    if (regular_) error = 0;
  }
  if (error) {
    fd_ = -1;
    return error;
  }
  if (Starved()) Unwatch();
  if (regular_) channel_->Ready(this);
  return 0;
}

void Source::OnReadable(void* data, int) {
  Entry entry(Entry::From::kLoop);
  static_cast<Source*>(data)->Pump();
}

size_t Source::PayloadSize() const {
  return WholeUnits(static_cast<size_t>(std::min<uint64_t>(credit_, largest_)));
}

void Source::Pump() {
  size_t budget = kTurn;
  while (!finished_) {
    if (channel_->blocked()) {
      Unwatch();
      return channel_->Ready(this);
    }
    if (Starved()) return Unwatch();
    if (budget == 0) return Wait();
    bool empty = false;
    PageRelay* relay = bulky_ ? channel_->Relay() : nullptr;
    const long got = relay ? SendPages(relay, &empty) : SendCopy(&empty);
    if (got > 0) {
      budget -= std::min(budget, static_cast<size_t>(got));
    } else if (!empty) {
      return Finish(static_cast<int>(-got), "read");
    }
    if (empty && !finished_) {
      if (terminal_) ReachedNow();
      return Wait();
    }
  }
}

long Source::SendCopy(bool* empty) {
  const size_t size = PayloadSize();
  const long got = Fill(channel_->BulkPayload(), size, empty);
  if (got <= 0) return got;
  bulky_ = pipe_ && static_cast<size_t>(got) >= std::min(size, kWriteUnit - kFrameHeader);
  if (bulky_ && !grown_) Grow();
  credit_ -= static_cast<uint64_t>(got);
  framed_ += static_cast<uint64_t>(got);
  channel_->SendBulk(this, static_cast<size_t>(got));
  return got;
}

// The writer gets room to run ahead, so that the two wake each other less often. Most commands never need it, and it
// would cost each of them a system call at its start. Best effort: there is a limit for those who are not root.
void Source::Grow() {
  grown_ = true;
  fcntl(fd_, F_SETPIPE_SZ, static_cast<int>(kRoom));
}

long Source::SendPages(PageRelay* relay, bool* empty) {
  const size_t size = static_cast<size_t>(std::min<uint64_t>(credit_, std::min<size_t>(kPages, channel_->max_payload())));
  const size_t whole = size < kPage ? size : size / kPage * kPage;
  long got = relay->Load(fd_, whole);
  *empty = got == -EAGAIN || (got > 0 && static_cast<size_t>(got) < whole);
  if (got <= 0) return got == -EAGAIN ? 0 : got;
  bulky_ = static_cast<size_t>(got) >= kWorthPages;
  if (!bulky_) got = relay->Read(channel_->BulkPayload(), static_cast<size_t>(got));
  if (got <= 0) return got < 0 ? got : -EIO;
  credit_ -= static_cast<uint64_t>(got);
  framed_ += static_cast<uint64_t>(got);
  if (bulky_) {
    channel_->SendPages(this, static_cast<size_t>(got));
  } else {
    channel_->SendBulk(this, static_cast<size_t>(got));
  }
  return got;
}

// Reads once; a terminal, which hands out little at a time, until there is nothing more. Bytes read, or 0 at the end, or
// a negative errno. `empty`: nothing more can be read now.
long Source::Fill(uint8_t* to, size_t size, bool* empty) {
  size_t have = 0;
  while (have < size) {
    const ssize_t count = Retry([&] { return read(fd_, to + have, size - have); });
    if (count > 0) {
      have += static_cast<size_t>(count);
      if (terminal_) continue;
      *empty = have < size && !regular_;
      break;
    }
    *empty = count < 0 && errno == EAGAIN;
    if (have > 0) break;  // an end or error shows again at the next read
    // EIO: no process has the terminal open any more.
    return count == 0 || (terminal_ && errno == EIO) ? 0 : -errno;
  }
  return static_cast<long>(have);
}

void Source::Wait() {
  if (regular_) return channel_->Ready(this);
  if (watched_) return;
  const int result = yavm_loop_watch(fd_, YAVM_READABLE, OnReadable, this);
  if (result < 0) return Finish(-result, "epoll_ctl");
  watched_ = true;
}

void Source::Unwatch() {
  if (watched_) yavm_loop_unwatch(fd_);
  watched_ = false;
}

void Source::AddCredit(uint32_t bytes) {
  // 2^64 would take a peer that sends credit for centuries.
  credit_ = std::min<uint64_t>(credit_ + bytes, UINT64_MAX - UINT32_MAX);
  if (!finished_ && !watched_ && !Starved()) Pump();
}

void Source::Finish(int error, const char* call) {
  if (finished_) return;
  finished_ = true;
  error_ = error;
  error_call_ = call;
  Unwatch();
  close(fd_);
  fd_ = -1;
  channel_->Remove(this);
  if (!channel_->ended()) channel_->SendOwn(kFrameEnd, stream_, nullptr, 0);
  // While its last frame is being written, Sent or ChannelGone will tell.
  if (channel_ && channel_->Carries(this)) return;
  channel_ = nullptr;
  SettleWaiters();
  Announce(this);
}

void Source::Sent(size_t bytes) {
  sent_ += bytes;
  SettleWaiters();
  if (finished_) ChannelGone();
}

void Source::ChannelGone() {
  channel_ = nullptr;
  Announce(this);
}

// ---------------------------------------------------------------- drain

bool Source::Drain(napi_value callback) {
  if (waiters_.size() >= kMaxWaiters) return false;
  uint64_t target = framed_;
  int pending = 0;
  if (terminal_) {
    // What was written may still be on its way through the kernel: read on until there is nothing, or that much more.
    target += kTerminalBacklog;
  } else if (!finished_ && ioctl(fd_, FIONREAD, &pending) == 0 && pending > 0) {
    target += static_cast<uint64_t>(pending);
  }
  waiters_.emplace_back();
  waiters_.back().target = target;
  waiters_.back().callback.Set(callback);
  if (terminal_ && !finished_) {
    if (Starved() && !Readable(fd_)) ReachedNow();
    Pump();
  }
  SettleWaiters();
  return true;
}

void Source::ReachedNow() {
  for (Waiter& waiter : waiters_) waiter.target = std::min(waiter.target, framed_);
  SettleWaiters();
}

void Source::SettleWaiters() {
  const bool over = finished_ && !channel_;
  for (size_t i = 0; i < waiters_.size();) {
    if (!over && waiters_[i].target > sent_) {
      i++;
      continue;
    }
    settled_.push_back(std::move(waiters_[i]));
    waiters_.erase(waiters_.begin() + static_cast<long>(i));
  }
  if (!settled_.empty()) Announce(this);
}

void Source::Deliver() {
  if (told_) return;
  napi_env env = CurrentEnv();
  SettleWaiters();
  std::vector<Waiter> batch;
  batch.swap(settled_);
  for (const Waiter& waiter : batch) waiter.callback.Call({MakeNumber(env, static_cast<double>(sent_))});
  if (!finished_ || channel_) return;
  // A callback above may have asked for one more.
  if (!settled_.empty() || !waiters_.empty()) return Announce(this);
  told_ = true;
  napi_value error = error_ ? SystemError(env, error_, error_call_) : MakeNull(env);
  ForgetSource(handle_);
  Bury(this);
  on_end.Call({MakeNumber(env, static_cast<double>(sent_)), error});
}

}  // namespace yavm
