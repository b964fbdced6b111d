#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "channel.h"
#include "error.h"
#include "loop.h"
#include "stream_table.h"
#include "sys.h"
#include "value.h"

namespace yavm {

Sink::Sink(Channel* channel, int handle, uint32_t stream, int fd, uint32_t window, int eof_byte)
    : channel_(channel),
      handle_(handle),
      stream_(stream),
      fd_(fd),
      window_(window),
      eof_byte_(eof_byte),
      owed_(window) {}

Sink::~Sink() {
  if (fd_ >= 0) close(fd_);
}

int Sink::Start() {
  const int flags = fcntl(fd_, F_GETFL);
  if (flags >= 0 && fcntl(fd_, F_SETFL, flags | O_NONBLOCK) == 0) return 0;
  fd_ = -1;
  return errno;
}

bool Sink::Reserve(size_t size) {
  if (size > allowed_) return false;
  allowed_ -= size;
  return true;
}

void Sink::Take(const uint8_t* bytes, size_t size) {
  if (broken_ || ended_ || size == 0) return Owe(size);
  taken_ += size;
  const uint8_t last = bytes[size - 1];
  at_line_start_ = last == '\n' || last == '\r';
  Write(bytes, size);
}

void Sink::TakeEnd() {
  if (ended_) return;
  ended_ = true;
  if (broken_) return Finish(0, nullptr);
  if (eof_byte_ >= 0) {
    // A terminal hands a half line over at the first EOF character, and only the second, on an empty line, is the end.
    const uint8_t marks[2] = {static_cast<uint8_t>(eof_byte_), static_cast<uint8_t>(eof_byte_)};
    return Write(marks, at_line_start_ ? 1 : 2);
  }
  if (queue_.empty()) Finish(0, nullptr);
}

// ---------------------------------------------------------------- writing

void Sink::Write(const uint8_t* bytes, size_t size) {
  if (queue_.empty()) {
    size_t done = 0;
    const int error = WriteSome(bytes, size, &done);
    if (finished_) return;  // the channel ended while it was given credit
    if (error) return Break(error, size - done);
    bytes += done;
    size -= done;
  }
  queue_.insert(queue_.end(), bytes, bytes + size);
  if (size == 0 || watched_) return;
  const int result = yavm_loop_watch(fd_, YAVM_WRITABLE, OnWritable, this);
  if (result < 0) return Break(-result, 0);
  watched_ = true;
}

int Sink::WriteSome(const uint8_t* bytes, size_t size, size_t* done) {
  while (*done < size && !finished_) {
    const ssize_t count = Retry([&] { return write(fd_, bytes + *done, size - *done); });
    if (count < 0 && errno != EAGAIN) return errno;
    if (count <= 0) return 0;
    *done += static_cast<size_t>(count);
    const uint64_t before = total();
    written_ += static_cast<uint64_t>(count);
    Owe(total() - before);
  }
  return 0;
}

void Sink::OnWritable(void* data, int) {
  Entry entry(Entry::From::kLoop);
  static_cast<Sink*>(data)->FlushQueue();
}

void Sink::FlushQueue() {
  size_t done = 0;
  const int error = WriteSome(queue_.data() + queue_at_, queue_.size() - queue_at_, &done);
  if (finished_) return;
  queue_at_ += done;
  if (error) return Break(error, 0);
  if (queue_at_ < queue_.size()) return;
  queue_at_ = 0;
  std::vector<uint8_t>().swap(queue_);
  yavm_loop_unwatch(fd_);
  watched_ = false;
  if (ended_ && eof_byte_ < 0) Finish(0, nullptr);
}

// The peer goes on sending what it has credit for, and must not stop in the middle: the rest is eaten.
void Sink::Break(int error, size_t unwritten) {
  if (finished_) return;
  broken_ = true;
  error_ = error;
  error_call_ = "write";
  const size_t dropped = queue_.size() - queue_at_ + unwritten;
  CloseFd();
  Announce(this);
  if (ended_) return Finish(error, "write");
  Owe(dropped);
}

void Sink::CloseFd() {
  if (fd_ < 0) return;
  if (watched_) yavm_loop_unwatch(fd_);
  watched_ = false;
  close(fd_);
  fd_ = -1;
  queue_at_ = 0;
  std::vector<uint8_t>().swap(queue_);
}

// ---------------------------------------------------------------- credit

void Sink::Owe(size_t size) {
  owed_ += size;
  // In lumps: a frame for every few bytes would cost more than the bytes. The peer has three quarters of its window left.
  if (!finished_ && owed_ > 0 && owed_ >= window_ / 4) channel_->Grant(this);
}

uint32_t Sink::TakeOwed() {
  const uint64_t owed = owed_;
  owed_ = 0;
  allowed_ += owed;
  return static_cast<uint32_t>(owed);
}

// ---------------------------------------------------------------- end

void Sink::Finish(int error, const char* call) {
  if (finished_) return;
  finished_ = true;
  if (!broken_ && error) {
    error_ = error;
    error_call_ = call;
  }
  CloseFd();
  channel_->Remove(this);
  channel_ = nullptr;
  Announce(this);
}

void Sink::Deliver() {
  napi_env env = CurrentEnv();
  if (finished_) {
    ForgetSink(handle_);
    Bury(this);
  }
  if (told_) return;
  told_ = true;
  napi_value error = error_ ? SystemError(env, error_, error_call_) : MakeNull(env);
  on_end.Call({MakeNumber(env, static_cast<double>(total())), error});
}

}  // namespace yavm
