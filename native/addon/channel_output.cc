// Channel: frames that go out, and whose turn it is.
#include <errno.h>
#include <unistd.h>

#include <algorithm>

#include "channel.h"
#include "frames.h"
#include "loop.h"
#include "sink.h"
#include "source.h"
#include "stream_table.h"
#include "sys.h"

namespace yavm {
namespace {

// Queue memory kept for the next frames.
constexpr size_t kKeptQueue = 64 * 1024;

}  // namespace

size_t Channel::Queued() const { return queue_.size() - queue_at_ + bulk_end_ - bulk_at_ + pages_left_; }

bool Channel::Send(uint8_t type, uint32_t stream, const uint8_t* payload, size_t size) {
  const size_t waiting = queue_.size() - queue_at_;
  if (waiting > 0 && waiting + kFrameHeader + size > max_queued_) return false;
  SendOwn(type, stream, payload, size);
  return true;
}

void Channel::SendOwn(uint8_t type, uint32_t stream, const uint8_t* payload, size_t size) {
  if (ended_) return;
  // One piece in memory, because a port turns every piece of a writev into a transfer of its own.
  const size_t start = queue_.size();
  queue_.resize(start + kFrameHeader);
  PutHeader(queue_.data() + start, type, stream, size);
  queue_.insert(queue_.end(), payload, payload + size);
  if (!blocked_ && !flushing_) Flush();
}

uint8_t* Channel::BulkPayload() {
  bulk_.Resize(kBulk, 0);
  return bulk_.data() + kFrameHeader;
}

void Channel::SendBulk(Source* source, size_t payload) {
  PutHeader(bulk_.data(), kFrameData, source->stream(), payload);
  bulk_at_ = 0;
  bulk_end_ = kFrameHeader + payload;
  bulk_size_ = payload;
  bulk_source_ = source;
  Flush();
}

PageRelay* Channel::Relay() { return takes_pages_ && relay_.Open(kPages) ? &relay_ : nullptr; }

void Channel::SendPages(Source* source, size_t payload) {
  uint8_t header[kFrameHeader];
  PutHeader(header, kFrameData, source->stream(), payload);
  const int error = relay_.Frame(header, sizeof header, payload);
  // The pages are neither here nor there: what follows would not be the stream any more.
  if (error) return EndByErrno("splice", -error);
  pages_left_ = sizeof header + payload;
  bulk_size_ = payload;
  bulk_source_ = source;
  Flush();
}

void Channel::Grant(Sink* sink) {
  if (ended_) return;
  if (!sink->due) {
    sink->due = true;
    due_.push_back(sink);
  }
  if (!blocked_ && !flushing_) Flush();
}

void Channel::GrantDue() {
  std::vector<Sink*> batch;
  batch.swap(due_);
  for (Sink* sink : batch) {
    sink->due = false;
    uint8_t payload[kCreditPayload];
    PutU32(payload, sink->TakeOwed());
    SendOwn(kFrameCredit, sink->stream(), payload, sizeof payload);
  }
}

void Channel::Flush() {
  if (flushing_ || ended_) return;
  flushing_ = true;
  bool all = true;
  do {
    all = FlushBulk() && FlushQueue();
    if (all) GrantDue();
  } while (all && !ended_ && !queue_.empty());
  flushing_ = false;
  if (ended_ || all == !blocked_) return;
  blocked_ = !all;
  const int result = Watch(blocked_);
  if (result < 0) return EndByErrno("epoll_ctl", -result);
  if (!blocked_ && !ready_.empty()) ScheduleTurn();
}

bool Channel::FlushBulk() {
  do {
    while (bulk_at_ < bulk_end_) {
      const long count = Write(bulk_.data() + bulk_at_, bulk_end_ - bulk_at_);
      if (count <= 0) return false;
      bulk_at_ += static_cast<size_t>(count);
    }
    if (!FlushPages()) return false;
  } while (bulk_at_ < bulk_end_);
  if (!bulk_source_) return true;
  Source* source = bulk_source_;
  bulk_source_ = nullptr;
  source->Sent(bulk_size_);
  if (sources.empty()) ReleaseBulk();
  return true;
}

// False: the descriptor takes no more. Where it takes no pages at all, the next ones are in the bulk buffer.
bool Channel::FlushPages() {
  while (pages_left_ > 0) {
    long count = takes_pages_ ? relay_.Unload(fd_, pages_left_) : -EINVAL;
    const bool copied = count == -EINVAL;
    if (copied) {
      takes_pages_ = false;
      BulkPayload();
      count = relay_.ReadFrame(bulk_.data(), bulk_.size());
    }
    if (count == -EAGAIN) return false;
    if (count <= 0) {
      EndByErrno("splice", count < 0 ? static_cast<int>(-count) : EIO);
      return false;
    }
    pages_left_ -= static_cast<size_t>(count);
    if (!copied) continue;
    bulk_at_ = 0;
    bulk_end_ = static_cast<size_t>(count);
    return true;
  }
  return true;
}

void Channel::ReleaseBulk() {
  bulk_.Resize(0, 0);
  relay_.Close();
}

bool Channel::FlushQueue() {
  while (queue_at_ < queue_.size()) {
    const long count = Write(queue_.data() + queue_at_, queue_.size() - queue_at_);
    if (count <= 0) {
      // The part that is out must not pile up before a long queue that is never quite empty.
      if (queue_at_ > queue_.size() / 2) {
        queue_.erase(queue_.begin(), queue_.begin() + static_cast<long>(queue_at_));
        queue_at_ = 0;
      }
      return false;
    }
    queue_at_ += static_cast<size_t>(count);
  }
  queue_at_ = 0;
  queue_.clear();
  if (queue_.capacity() > kKeptQueue) std::vector<uint8_t>().swap(queue_);
  return true;
}

long Channel::Write(const uint8_t* bytes, size_t size) {
  if (ended_) return -1;
  const ssize_t count = Retry([&] { return write(fd_, bytes, size); });
  if (count >= 0) return count;
  if (errno == EAGAIN) return 0;
  EndByErrno("write", errno);
  return -1;
}

// ---------------------------------------------------------------- turns

void Channel::Ready(Source* source) {
  if (std::find(ready_.begin(), ready_.end(), source) == ready_.end()) ready_.push_back(source);
  if (!blocked_) ScheduleTurn();
}

void Channel::NotReady(Source* source) {
  ready_.erase(std::remove(ready_.begin(), ready_.end(), source), ready_.end());
}

// The number, not the address, is what the loop keeps: a deferred call cannot be taken back.
void Channel::ScheduleTurn() {
  if (turn_ || ended_) return;
  turn_ = yavm_loop_defer(
              [](void* data, int) {
                Entry entry(Entry::From::kLoop);
                Channel* channel = FindChannel(static_cast<int>(reinterpret_cast<intptr_t>(data)));
                if (!channel) return;
                channel->turn_ = false;
                channel->PumpReady();
              },
              reinterpret_cast<void*>(static_cast<intptr_t>(handle_))) == 0;
}

void Channel::PumpReady() {
  std::vector<Source*> batch;
  batch.swap(ready_);
  for (size_t i = 0; i < batch.size() && !ended_; i++) {
    if (!blocked_) {
      if (!batch[i]->finished()) batch[i]->Pump();
      continue;
    }
    // Those that had no turn come before the one that has just filled the descriptor.
    size_t at = 0;
    for (; i < batch.size(); i++) {
      if (!batch[i]->finished()) ready_.insert(ready_.begin() + static_cast<long>(at++), batch[i]);
    }
  }
}

}  // namespace yavm
