// Frames in and out of sockets: datagrams in batches, streams in pieces. Node's alone.
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

// Most datagrams of one call.
constexpr size_t kBatch = 256;
constexpr uint32_t kTooLong = UINT32_MAX;
// Errors of a peer that was gone, at most, that a call passes over: each is told once.
constexpr int kMaxRefusals = 8;

// UDP_SEGMENT of udp(7), Linux 4.18: datagrams of one size, of which the last may be shorter, pass the network's stack as
// one. On the loopback each costs a sixth then; who receives them gets them one by one.
constexpr int kUdpSegment = 103;
// Datagrams of one run, at most, and bytes of them: what every kernel takes.
constexpr size_t kMaxRun = 64;
constexpr size_t kMaxRunBytes = 65000;

struct Batch {
  mmsghdr messages[kBatch];
  iovec pieces[kBatch];
  // Datagrams of each message, and what says their size when there are several.
  size_t runs[kBatch];
  alignas(cmsghdr) char controls[kBatch][CMSG_SPACE(sizeof(uint16_t))];
};
thread_local Batch batch;

// A view of a Uint32Array's elements: valid until the call returns.
struct Words {
  uint32_t* data = nullptr;
  size_t count = 0;
};

Words WordsAt(const Napi::CallbackInfo& info, Args& args, size_t index, const char* name) {
  Words words;
  if (!args.Ok()) return words;
  napi_value value = index < info.Length() ? napi_value(info[index]) : nullptr;
  bool typed = false;
  if (value) napi_is_typedarray(args.Env(), value, &typed);
  napi_typedarray_type type = napi_int8_array;
  void* data = nullptr;
  if (typed) napi_get_typedarray_info(args.Env(), value, &type, &words.count, &data, nullptr, nullptr);
  if (!typed || type != napi_uint32_array) {
    args.Reject(name, "a Uint32Array");
    return Words();
  }
  words.data = static_cast<uint32_t*>(data);
  return words;
}

void SetMessage(size_t index, uint8_t* data, size_t size) {
  batch.pieces[index] = {data, size};
  msghdr& header = batch.messages[index].msg_hdr;
  memset(&header, 0, sizeof header);
  header.msg_iov = &batch.pieces[index];
  header.msg_iovlen = 1;
}

// The datagram itself, or the peer that it was for, is at fault: the next one may go.
bool CannotGo(int error) {
  switch (error) {
    case EMSGSIZE:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPERM:
    case ENETUNREACH:
    case EHOSTUNREACH:
      return true;
    default:
      return false;
  }
}

bool NoRoom(int error) { return error == EAGAIN || error == ENOBUFS; }

// The kernel, or the way of the datagrams, cannot have runs.
bool CannotRun(int error) {
  return error == EINVAL || error == EMSGSIZE || error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT;
}

bool IsUdp(int fd) {
  int protocol = 0;
  socklen_t size = sizeof protocol;
  return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_UDP;
}

// How many datagrams from `lengths` on can be one run.
size_t RunOf(const uint32_t* lengths, size_t most) {
  const uint32_t size = lengths[0];
  if (size == 0 || most < 2) return 1;
  size_t count = 1;
  for (size_t bytes = size; count < most && count < kMaxRun && lengths[count - 1] == size; count++) {
    bytes += lengths[count];
    if (lengths[count] == 0 || lengths[count] > size || bytes > kMaxRunBytes) break;
  }
  return count;
}

// The first `run` pieces from `piece` on as a message, as one run when they are several.
void SetRun(size_t index, size_t piece, size_t run) {
  msghdr& header = batch.messages[index].msg_hdr;
  memset(&header, 0, sizeof header);
  header.msg_iov = &batch.pieces[piece];
  header.msg_iovlen = run;
  batch.runs[index] = run;
  if (run < 2) return;
  header.msg_control = batch.controls[index];
  header.msg_controllen = sizeof batch.controls[index];
  cmsghdr* control = CMSG_FIRSTHDR(&header);
  control->cmsg_level = IPPROTO_UDP;
  control->cmsg_type = kUdpSegment;
  control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  const auto size = static_cast<uint16_t>(batch.pieces[piece].iov_len);
  memcpy(CMSG_DATA(control), &size, sizeof size);
}

// Messages for `count` datagrams, which are in the batch's pieces.
size_t SetRuns(const uint32_t* lengths, size_t count, bool runs) {
  size_t messages = 0;
  for (size_t at = 0; at < count; messages++) {
    const size_t run = runs ? RunOf(lengths + at, count - at) : 1;
    SetRun(messages, at, run);
    at += run;
  }
  return messages;
}

// Part of a buffer, by offset and length.
Bytes PartAt(Args& args, size_t index, const char* name) {
  const Bytes whole = args.Buffer(index, name);
  const auto size = static_cast<int64_t>(whole.size);
  const int64_t offset = args.Integer(index + 1, "offset", 0, size);
  const int64_t length = args.Integer(index + 2, "length", 0, args.Ok() ? size - offset : size);
  if (!args.Ok()) return Bytes();
  return Bytes{whole.data + offset, static_cast<size_t>(length)};
}

}  // namespace

Napi::Value ReceiveDatagrams(const Napi::CallbackInfo& info) {
  Args args(info, "receiveDatagrams");
  const int fd = args.Fd(0, "fd");
  const Bytes into = args.Buffer(1, "into");
  const auto stride = static_cast<size_t>(args.Integer(2, "stride", 1, INT32_MAX));
  const Words lengths = WordsAt(info, args, 3, "lengths");
  if (!args.Ok()) return Nothing();
  size_t slots = into.size / stride;
  if (slots > lengths.count) slots = lengths.count;
  if (slots > kBatch) slots = kBatch;
  if (slots == 0) return Number(args.Env(), 0);
  for (size_t index = 0; index < slots; index++) SetMessage(index, into.data + index * stride, stride);
  int count = -1;
  for (int tries = 0; tries < kMaxRefusals && count < 0; tries++) {
    count = Retry([&] { return recvmmsg(fd, batch.messages, static_cast<unsigned>(slots), MSG_DONTWAIT, nullptr); });
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0 && !CannotGo(errno)) return Fail(args.Env(), errno, "recvmmsg");
  }
  for (int index = 0; index < count; index++) {
    const mmsghdr& message = batch.messages[index];
    lengths.data[index] = message.msg_hdr.msg_flags & MSG_TRUNC ? kTooLong : message.msg_len;
  }
  return Number(args.Env(), count < 0 ? 0 : count);
}

Napi::Value SendDatagrams(const Napi::CallbackInfo& info) {
  Args args(info, "sendDatagrams");
  const int fd = args.Fd(0, "fd");
  const Bytes from = args.Buffer(1, "from");
  const Words offsets = WordsAt(info, args, 2, "offsets");
  const Words lengths = WordsAt(info, args, 3, "lengths");
  const size_t most = offsets.count < lengths.count ? offsets.count : lengths.count;
  const auto first = static_cast<size_t>(args.Integer(4, "first", 0, static_cast<int64_t>(most)));
  const auto count = static_cast<size_t>(args.Integer(5, "count", 0, static_cast<int64_t>(most)));
  for (size_t index = first; args.Ok() && index < count; index++) {
    const bool inside = offsets.data[index] <= from.size && lengths.data[index] <= from.size - offsets.data[index];
    if (!inside) args.Reject("lengths", "of parts of the buffer");
  }
  if (!args.Ok()) return Nothing();
  bool runs = count - first > 1 && IsUdp(fd);
  size_t at = first;
  while (at < count) {
    const size_t number = count - at < kBatch ? count - at : kBatch;
    for (size_t index = 0; index < number; index++) {
      batch.pieces[index] = {from.data + offsets.data[at + index], lengths.data[at + index]};
    }
    const auto messages = static_cast<unsigned>(SetRuns(lengths.data + at, number, runs));
    const int sent = Retry([&] { return sendmmsg(fd, batch.messages, messages, MSG_DONTWAIT); });
    if (sent > 0) {
      for (int index = 0; index < sent; index++) at += batch.runs[index];
    } else if (NoRoom(errno)) {
      break;
    } else if (batch.runs[0] > 1 && CannotRun(errno)) {
      runs = false;
    } else if (CannotGo(errno)) {
      lengths.data[at] = 0;
      at++;
    } else {
      return Fail(args.Env(), errno, "sendmmsg");
    }
  }
  return Number(args.Env(), static_cast<double>(at - first));
}

Napi::Value ReceiveBytes(const Napi::CallbackInfo& info) {
  Args args(info, "receiveBytes");
  const int fd = args.Fd(0, "fd");
  const Bytes into = PartAt(args, 1, "into");
  if (!args.Ok()) return Nothing();
  const ssize_t count = Retry([&] { return recv(fd, into.data, into.size, MSG_DONTWAIT); });
  if (count < 0 && errno != EAGAIN) return Fail(args.Env(), errno, "recv");
  return Number(args.Env(), static_cast<double>(count));
}

Napi::Value SendBytes(const Napi::CallbackInfo& info) {
  Args args(info, "sendBytes");
  const int fd = args.Fd(0, "fd");
  const Bytes from = PartAt(args, 1, "from");
  if (!args.Ok()) return Nothing();
  const ssize_t count = Retry([&] { return send(fd, from.data, from.size, MSG_DONTWAIT | MSG_NOSIGNAL); });
  if (count < 0 && !NoRoom(errno)) return Fail(args.Env(), errno, "send");
  return Number(args.Env(), static_cast<double>(count));
}

}  // namespace yavm
