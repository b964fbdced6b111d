#include "page_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "sys.h"

namespace yavm {
namespace {

constexpr size_t kPage = 4096;

long Move(int from, int to, size_t size) {
  const ssize_t count = Retry([&] { return splice(from, nullptr, to, nullptr, size, SPLICE_F_NONBLOCK); });
  return count < 0 ? -errno : static_cast<long>(count);
}

long Copy(int from, uint8_t* to, size_t size) {
  const ssize_t count = Retry([&] { return read(from, to, size); });
  return count < 0 ? -errno : static_cast<long>(count);
}

}  // namespace

PageRelay::~PageRelay() { Close(); }

bool PageRelay::Open(size_t size) {
  if (load_.read >= 0) return true;
  // A pipe counts pages: one more for the header, and one for a payload that starts inside its first page.
  if (Make(&load_, size) && Make(&out_, size + 2 * kPage)) return true;
  Close();
  return false;
}

bool PageRelay::Make(Pipe* pipe, size_t size) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) return false;
  pipe->read = fds[0];
  pipe->write = fds[1];
  return fcntl(fds[1], F_SETPIPE_SZ, static_cast<int>(size)) >= 0;
}

void PageRelay::CloseEnds(Pipe* pipe) {
  if (pipe->read >= 0) close(pipe->read);
  if (pipe->write >= 0) close(pipe->write);
  *pipe = Pipe();
}

void PageRelay::Close() {
  CloseEnds(&load_);
  CloseEnds(&out_);
}

long PageRelay::Load(int fd, size_t size) { return Move(fd, load_.write, size); }

long PageRelay::Read(uint8_t* to, size_t size) { return Copy(load_.read, to, size); }

int PageRelay::Frame(const uint8_t* header, size_t header_size, size_t payload) {
  const ssize_t count = Retry([&] { return write(out_.write, header, header_size); });
  if (count != static_cast<ssize_t>(header_size)) return count < 0 ? -errno : -EIO;
  while (payload > 0) {
    const long moved = Move(load_.read, out_.write, payload);
    if (moved <= 0) return moved < 0 ? static_cast<int>(moved) : -EIO;
    payload -= static_cast<size_t>(moved);
  }
  return 0;
}

long PageRelay::Unload(int fd, size_t size) { return Move(out_.read, fd, size); }

long PageRelay::ReadFrame(uint8_t* to, size_t size) { return Copy(out_.read, to, size); }

}  // namespace yavm
