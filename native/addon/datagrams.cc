// Frames in and out of sockets: datagrams in batches, streams in pieces. Node's alone.
#include <errno.h>
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

struct Batch {
  mmsghdr messages[kBatch];
  iovec pieces[kBatch];
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
  size_t at = first;
  while (at < count) {
    const size_t number = count - at < kBatch ? count - at : kBatch;
    for (size_t index = 0; index < number; index++) {
      SetMessage(index, from.data + offsets.data[at + index], lengths.data[at + index]);
    }
    const int sent = Retry([&] { return sendmmsg(fd, batch.messages, static_cast<unsigned>(number), MSG_DONTWAIT); });
    if (sent > 0) {
      at += static_cast<size_t>(sent);
    } else if (NoRoom(errno)) {
      break;
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
