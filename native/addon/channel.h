// A descriptor that carries frames both ways (native/face.ts, "stream").
//
// Out: at most one DATA frame of a source (the bulk frame) is being written at a time; frames of JavaScript and our own
// END and CREDIT frames wait in a queue and go out between two bulk frames. While the descriptor takes no more, sources
// are not read: their readers wait in `ready_`. In: DATA goes to its sink as it arrives, CREDIT to its source.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <map>
#include <string>
#include <vector>

#include "buffer.h"
#include "callback.h"
#include "lifetime.h"
#include "page_relay.h"

namespace yavm {

class Source;
class Sink;

// What a channel may write in one system call at best: the guest's virtio-console driver cuts at 32 KiB, so a frame
// fills whole units when there is enough to send, and never leaves a crumb that costs one more exit of the VM.
constexpr size_t kWriteUnit = 32 * 1024;
// Largest bulk frame, header included; the buffer exists while the channel has sources.
constexpr size_t kBulk = 4 * kWriteUnit;
// Largest payload that goes as pages; a frame may have 256 KiB (MAX_DATA_PAYLOAD). Whole pages, because one of which a
// part stays behind has to be copied.
constexpr size_t kPages = 252 * 1024;
// Input buffer; bigger only while a bigger frame for JavaScript is incomplete.
constexpr size_t kInput = 64 * 1024;
// Sources, and sinks, of one channel.
constexpr size_t kMaxStreams = 4096;

class Channel : public Subject {
 public:
  Channel(int handle, int fd, uint32_t max_payload, size_t max_queued);
  ~Channel() override;

  // 0 or the errno of the call that failed: then the descriptor is still the caller's.
  int Start();
  void Deliver() override;
  // No callback comes from it any more; streams end with ECANCELED.
  void Close();

  Callback on_frame;
  Callback on_end;

  int handle() const { return handle_; }
  bool ended() const { return ended_; }
  uint32_t max_payload() const { return max_payload_; }

  // ---- output (channel_output.cc)
  // False: the queue is full.
  bool Send(uint8_t type, uint32_t stream, const uint8_t* payload, size_t size);
  // END and CREDIT frames: bounded by the number of streams, so never refused.
  void SendOwn(uint8_t type, uint32_t stream, const uint8_t* payload, size_t size);
  // Header and payload not yet taken by the descriptor.
  size_t Queued() const;
  // The descriptor takes no more: sources must wait.
  bool blocked() const { return blocked_; }
  // Where a source reads its next payload to; only while not blocked.
  uint8_t* BulkPayload();
  // Sends what the source put at BulkPayload().
  void SendBulk(Source* source, size_t payload);
  // Where a source moves the pages of its pipe to, only while not blocked; null when pages cannot be sent.
  PageRelay* Relay();
  // Sends what the source loaded into Relay().
  void SendPages(Source* source, size_t payload);
  // Whether a bulk frame of this source is still being written.
  bool Carries(const Source* source) const { return bulk_source_ == source; }
  // A source that can send, as soon as the descriptor takes more; one turn later when it does so now.
  void Ready(Source* source);
  void NotReady(Source* source);
  // Lets the sources that are ready send, round robin.
  void PumpReady();
  // A sink owes credit: sent now, or once the descriptor takes more.
  void Grant(Sink* sink);

  // ---- streams by number
  std::map<uint32_t, Source*> sources;
  std::map<uint32_t, Sink*> sinks;
  void Remove(Source* source);
  void Remove(Sink* sink);

 private:
  static void OnReady(void* data, int events);

  int Watch(bool writable);
  // Ends it: nothing is read or written any more.
  void End(const char* reason, const std::string& message);
  void EndByErrno(const char* call, int error);
  void EndStreams(int error);

  // Writes until all is out or the descriptor takes no more.
  void Flush();
  bool FlushBulk();
  bool FlushPages();
  bool FlushQueue();
  void ReleaseBulk();
  void GrantDue();
  // Bytes that the descriptor took, 0 when it takes none now; -1: the channel has ended.
  long Write(const uint8_t* bytes, size_t size);
  void ScheduleTurn();

  // ---- input (channel_input.cc)
  void ReadInput();
  // False: end of the stream or an error; the channel has not been ended for it yet.
  bool FillInput(bool* full, int* error);
  void ReserveInput();
  void ParseInput();
  // Consumes one whole header or frame; false when it is incomplete or the channel has ended.
  bool ParseFrame(size_t* at);
  bool BeginData(uint32_t stream, size_t payload);
  bool TakeCredit(uint32_t stream, const uint8_t* payload, size_t size);
  bool TakeEnd(uint32_t stream, size_t size);

  const int handle_;
  int fd_;
  const uint32_t max_payload_;
  const size_t max_queued_;
  bool ended_ = false;
  bool closed_ = false;
  const char* end_reason_ = nullptr;
  std::string end_message_;

  std::vector<uint8_t> queue_;
  size_t queue_at_ = 0;
  Buffer bulk_;
  size_t bulk_at_ = 0;
  size_t bulk_end_ = 0;
  size_t bulk_size_ = 0;
  Source* bulk_source_ = nullptr;
  // The bulk frame as pages, and its bytes that are not out yet.
  PageRelay relay_;
  size_t pages_left_ = 0;
  // Whether the descriptor takes pages, as far as is known.
  bool takes_pages_ = true;
  bool blocked_ = false;
  bool flushing_ = false;
  bool turn_ = false;
  std::vector<Source*> ready_;
  std::vector<Sink*> due_;

  Buffer input_;
  size_t input_size_ = 0;
  // Payload of the DATA frame that is arriving, and its sink (null: dropped).
  size_t data_left_ = 0;
  Sink* data_sink_ = nullptr;
};

}  // namespace yavm
