// A descriptor that is pumped into DATA frames of one stream.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "callback.h"
#include "lifetime.h"

namespace yavm {

class Channel;
class PageRelay;

class Source : public Subject {
 public:
  Source(Channel* channel, int handle, uint32_t stream, int fd, uint64_t credit);
  ~Source() override;

  // 0 or an errno: then the descriptor is still the caller's.
  int Start();
  void Deliver() override;
  void AddCredit(uint32_t bytes);
  // Calls back once what is in the pipe now has been sent. False: too many are waiting.
  bool Drain(napi_value callback);
  // Closes the descriptor and sends END; `error` is what onEnd is told, 0 for none.
  void Finish(int error, const char* call);
  // Reads and sends for one turn at most.
  void Pump();
  // The channel has written the whole frame that carried `bytes` of this source.
  void Sent(size_t bytes);
  // The channel has ended while it carried a frame of this source.
  void ChannelGone();

  Callback on_end;
  uint64_t sent() const { return sent_; }
  uint32_t stream() const { return stream_; }
  int handle() const { return handle_; }
  bool finished() const { return finished_; }

 private:
  struct Waiter {
    uint64_t target;
    Callback callback;
  };

  static void OnReadable(void* data, int events);
  bool Starved() const { return credit_ < quantum_; }
  size_t PayloadSize() const;
  long Fill(uint8_t* to, size_t size, bool* empty);
  // Each sends one frame. Bytes sent, 0 at the end, or a negative errno.
  long SendCopy(bool* empty);
  long SendPages(PageRelay* relay, bool* empty);
  void Grow();
  // Waits for more to read: by the loop, or by a turn for a regular file.
  void Wait();
  void Unwatch();
  // Everything that there was to read has been put into frames.
  void ReachedNow();
  void SettleWaiters();

  Channel* channel_;  // null once nothing of this source is there any more
  const int handle_;
  const uint32_t stream_;
  int fd_;
  uint64_t credit_;
  // Less credit than this is not spent: see Starved in source.cc.
  uint64_t quantum_;
  size_t largest_ = 0;
  bool regular_ = false;
  bool terminal_ = false;
  bool pipe_ = false;
  // The pipe was full lately: its pages are worth more than their copy.
  bool bulky_ = false;
  bool grown_ = false;
  bool watched_ = false;
  bool finished_ = false;
  bool told_ = false;
  // Bytes put into frames, and of these, bytes in frames that the descriptor took whole.
  uint64_t framed_ = 0;
  uint64_t sent_ = 0;
  int error_ = 0;
  const char* error_call_ = nullptr;
  std::vector<Waiter> waiters_;
  std::vector<Waiter> settled_;
};

}  // namespace yavm
