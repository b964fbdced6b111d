// Channel: frames that come in. Any bytes at all may come.
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "channel.h"
#include "frames.h"
#include "loop.h"
#include "sink.h"
#include "source.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// Full input buffers taken in one turn of the loop.
constexpr int kInputRounds = 4;

}  // namespace

void Channel::ReadInput() {
  for (int round = 0; round < kInputRounds && !ended_; round++) {
    ReserveInput();
    bool full = false;
    int error = 0;
    const bool open = FillInput(&full, &error);
    ParseInput();
    if (ended_) return;
    if (!open && error) return EndByErrno("read", error);
    if (!open) {
      const bool inside = input_size_ > 0 || data_left_ > 0;
      return End("closed", inside ? "the peer closed the connection inside a frame" : "the peer closed the connection");
    }
    if (!full) return;
  }
}

// A port hands out one 4 KiB buffer a call, so several reads go before the parser.
bool Channel::FillInput(bool* full, int* error) {
  while (input_size_ < input_.size()) {
    const ssize_t count = Retry([&] { return read(fd_, input_.data() + input_size_, input_.size() - input_size_); });
    if (count < 0 && errno == EAGAIN) return true;
    if (count < 0) *error = errno;
    if (count <= 0) return false;
    input_size_ += static_cast<size_t>(count);
  }
  *full = true;
  return true;
}

// Room for the rest of the frame that is incomplete; its length has been checked.
void Channel::ReserveInput() {
  size_t wanted = kInput;
  if (input_size_ >= kFrameHeader) wanted = std::max(wanted, size_t{GetU32(input_.data())} + 4);
  input_.Resize(wanted, input_size_);
}

void Channel::ParseInput() {
  size_t at = 0;
  while (!ended_ && at < input_size_) {
    if (data_left_ > 0) {
      const size_t size = std::min(data_left_, input_size_ - at);
      data_left_ -= size;
      if (data_sink_) data_sink_->Take(input_.data() + at, size);
      at += size;
    } else if (!ParseFrame(&at)) {
      break;
    }
  }
  if (ended_) return;
  input_size_ -= at;
  if (at > 0 && input_size_ > 0) memmove(input_.data(), input_.data() + at, input_size_);
}

bool Channel::ParseFrame(size_t* at) {
  const uint8_t* frame = input_.data() + *at;
  const size_t have = input_size_ - *at;
  if (have < 4) return false;
  const size_t length = GetU32(frame);
  if (length < kCounted || length > max_payload_ + kCounted) {
    End("protocol", "frame length " + std::to_string(length) + " is outside 5…" + std::to_string(max_payload_ + kCounted));
    return false;
  }
  if (have < kFrameHeader) return false;
  const uint8_t type = frame[4];
  const uint32_t stream = GetU32(frame + 5);
  const size_t size = length - kCounted;
  if (type == kFrameData) {
    *at += kFrameHeader;
    return BeginData(stream, size);
  }
  if (have < kFrameHeader + size) return false;
  *at += kFrameHeader + size;
  const uint8_t* payload = frame + kFrameHeader;
  if (type == kFrameCredit) return TakeCredit(stream, payload, size);
  if (type == kFrameEnd) return TakeEnd(stream, size);
  napi_env env = CurrentEnv();
  napi_handle_scope scope = nullptr;
  napi_open_handle_scope(env, &scope);
  on_frame.Call({MakeNumber(env, type), MakeNumber(env, stream), MakeBytes(env, payload, size)});
  napi_close_handle_scope(env, scope);
  return !ended_;
}

// Frames of a stream that is not registered are late ones: it has just been stopped here.
bool Channel::BeginData(uint32_t stream, size_t size) {
  auto found = sinks.find(stream);
  data_sink_ = found == sinks.end() ? nullptr : found->second;
  if (data_sink_ && !data_sink_->Reserve(size)) {
    End("protocol", std::to_string(size) + " bytes on stream " + std::to_string(stream) + " are more than its credit");
    return false;
  }
  data_left_ = size;
  return true;
}

bool Channel::TakeCredit(uint32_t stream, const uint8_t* payload, size_t size) {
  if (size != kCreditPayload) {
    End("protocol", "credit frame of " + std::to_string(size) + " bytes, not 4");
    return false;
  }
  auto found = sources.find(stream);
  if (found != sources.end()) found->second->AddCredit(GetU32(payload));
  return !ended_;
}

bool Channel::TakeEnd(uint32_t stream, size_t size) {
  if (size != 0) {
    End("protocol", "end frame with a payload of " + std::to_string(size) + " bytes");
    return false;
  }
  auto found = sinks.find(stream);
  if (found != sinks.end()) found->second->TakeEnd();
  return !ended_;
}

}  // namespace yavm
