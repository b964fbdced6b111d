// Two pipes through which the pages of a command's pipe reach a port without being copied (splice(2)).
//
// The command's pipe itself is no place to splice from: a frame begins with its length, and a command can read its own
// stdout back (/proc/self/fd/1) after the length is out. So pages first move to `load`, which nobody else has, and from
// there behind the frame's header into `out`: header and payload then leave in one transfer.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace yavm {

class PageRelay {
 public:
  PageRelay() = default;
  ~PageRelay();
  PageRelay(const PageRelay&) = delete;
  PageRelay& operator=(const PageRelay&) = delete;

  // Makes the pipes, of which each takes `size` bytes and a header. False: there are none to be had now.
  bool Open(size_t size);
  void Close();

  // Moves up to `size` bytes out of the pipe `fd`: how many, 0 at its end, or a negative errno.
  long Load(int fd, size_t size);
  // Copies up to `size` of the loaded bytes to memory: how many, or a negative errno.
  long Read(uint8_t* to, size_t size);
  // Puts a header and the `payload` loaded bytes in order. 0 or a negative errno.
  int Frame(const uint8_t* header, size_t header_size, size_t payload);
  // Moves what is left of the frame, which must be `size` bytes, to `fd`: how many, or a negative errno; -EINVAL: `fd`
  // takes no pages. All of it, because Linux's virtio_console makes an empty buffer of each page that stays in the pipe
  // (its list has as many entries as the pipe had pages), and QEMU stops a device that sends an empty buffer.
  long Unload(int fd, size_t size);
  // Copies up to `size` bytes of the frame to memory: for an `fd` that takes no pages.
  long ReadFrame(uint8_t* to, size_t size);

 private:
  struct Pipe {
    int read = -1;
    int write = -1;
  };

  static bool Make(Pipe* pipe, size_t size);
  static void CloseEnds(Pipe* pipe);

  Pipe load_;
  Pipe out_;
};

}  // namespace yavm
