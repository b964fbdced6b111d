// A descriptor that is fed from DATA frames of one stream.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "callback.h"
#include "lifetime.h"

namespace yavm {

class Channel;

class Sink : public Subject {
 public:
  Sink(Channel* channel, int handle, uint32_t stream, int fd, uint32_t window, int eof_byte);
  ~Sink() override;

  // 0 or an errno: then the descriptor is still the caller's.
  int Start();
  void Deliver() override;
  // A DATA frame of `size` bytes begins. False: the peer has not been given that much credit.
  bool Reserve(size_t size);
  void Take(const uint8_t* bytes, size_t size);
  void TakeEnd();
  // Closes the descriptor and forgets the stream; `error` is what onEnd is told, 0 for none.
  void Finish(int error, const char* call);
  // Credit to send now; called by the channel when it can take the frame.
  uint32_t TakeOwed();

  // Bytes of the stream that the descriptor took.
  uint64_t total() const { return written_ < taken_ ? written_ : taken_; }

  Callback on_end;
  bool due = false;  // in the channel's list
  uint32_t stream() const { return stream_; }
  int handle() const { return handle_; }

 private:
  static void OnWritable(void* data, int events);
  // Writes, and queues what the descriptor does not take now.
  void Write(const uint8_t* bytes, size_t size);
  // Adds to `done`, up to `size`, what the descriptor takes now. 0, or the errno with which it broke.
  int WriteSome(const uint8_t* bytes, size_t size, size_t* done);
  void FlushQueue();
  void Owe(size_t size);
  // The reader is gone: close, tell, and eat what still comes.
  void Break(int error, size_t unwritten);
  void CloseFd();

  Channel* channel_;  // null once forgotten by it
  const int handle_;
  const uint32_t stream_;
  int fd_;
  const uint32_t window_;
  const int eof_byte_;
  // Bytes that the peer may still send; bytes that it has not got credit for: at first the whole window.
  uint64_t allowed_ = 0;
  uint64_t owed_;
  // Bytes of DATA, and bytes that the descriptor took: those and the EOF characters after them.
  uint64_t taken_ = 0;
  uint64_t written_ = 0;
  std::vector<uint8_t> queue_;
  size_t queue_at_ = 0;
  bool watched_ = false;
  bool at_line_start_ = true;
  bool ended_ = false;     // END came
  bool broken_ = false;    // nobody reads any more
  bool finished_ = false;  // forgotten by the channel
  bool told_ = false;
  int error_ = 0;
  const char* error_call_ = nullptr;
};

}  // namespace yavm
