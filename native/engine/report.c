// The last words of a program, written with system calls only: also from a signal handler, on whatever still works.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"

// Patience with a descriptor whose other end does not read, milliseconds.
#define PATIENCE 200
// guest/protocol/frames.ts: length, type, stream.
#define FRAME_HEADER 9
#define FRAME_LOG 5
// Longest record, bytes; well below MAX_LOG_PAYLOAD. A text that JSON makes longer is cut off.
#define MAX_RECORD 16384

static int64_t milliseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

// Writes what the descriptor takes before `deadline` (milliseconds, CLOCK_MONOTONIC). It must be non-blocking.
static void write_until(int fd, const char* bytes, size_t length, int64_t deadline) {
  while (length > 0) {
    const ssize_t written = write(fd, bytes, length);
    if (written > 0) {
      bytes += written;
      length -= (size_t)written;
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    if (written == 0 || errno != EAGAIN) return;
    const int64_t left = deadline - milliseconds(CLOCK_MONOTONIC);
    struct pollfd waiting = {.fd = fd, .events = POLLOUT};
    if (left <= 0 || poll(&waiting, 1, (int)left) <= 0) return;
  }
}

// A machine that is switched off loses what its serial line has not sent yet.
static void drain_terminal(int fd, int64_t deadline) {
  int queued;
  const struct timespec pause = {0, 2000000};
  while (ioctl(fd, TIOCOUTQ, &queued) == 0 && queued > 0 && milliseconds(CLOCK_MONOTONIC) < deadline) {
    nanosleep(&pause, NULL);
  }
}

// The kernel's log, a line a record: at priority 2, critical, it is printed even by a quiet kernel.
static void write_kernel_log(int fd, const char* text, int64_t deadline) {
  char record[512] = "<2>ya-vm: ";
  const size_t prefix = strlen(record);
  while (*text != '\0') {
    const size_t line = strcspn(text, "\n");
    const size_t length = line < sizeof(record) - prefix ? line : sizeof(record) - prefix;
    memcpy(record + prefix, text, length);
    write_until(fd, record, prefix + length, deadline);
    text += line + (text[line] == '\n');
  }
}

static void write_line(int fd, const char* text, int64_t deadline) {
  // One write where the descriptor allows it, so that no other process's line comes between.
  static char line[MAX_RECORD] = "ya-vm: ";
  const size_t prefix = strlen("ya-vm: ");
  const size_t length = strnlen(text, sizeof(line) - prefix - 1);
  memcpy(line + prefix, text, length);
  line[prefix + length] = '\n';
  write_until(fd, line, prefix + length + 1, deadline);
}

void report_console(const char* text, bool is_machine_init) {
  const int64_t deadline = milliseconds(CLOCK_MONOTONIC) + PATIENCE;
  if (!is_machine_init) {
    write_line(STDERR_FILENO, text, deadline);
    return;
  }
  const int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (console >= 0) {
    write_line(console, text, deadline);
    drain_terminal(console, deadline);
    return;
  }
  const int kernel_log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
  if (kernel_log >= 0) write_kernel_log(kernel_log, text, deadline);
}

// ---- the log record ------------------------------------------------------------------------------------------

struct record {
  size_t length;
  char bytes[MAX_RECORD];
};

static void put(struct record* record, const char* bytes, size_t length) {
  if (length > sizeof(record->bytes) - record->length) return;
  memcpy(record->bytes + record->length, bytes, length);
  record->length += length;
}

static void put_text(struct record* record, const char* text) { put(record, text, strlen(text)); }

static void put_number(struct record* record, int64_t number) {
  char digits[20];
  size_t start = sizeof(digits);
  do {
    digits[--start] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  put(record, digits + start, sizeof(digits) - start);
}

// The inside of a JSON string, as much of it as leaves `reserve` bytes of the record.
static void put_escaped(struct record* record, const char* text, size_t reserve) {
  static const char hex[] = "0123456789abcdef";
  for (; *text != '\0' && sizeof(record->bytes) - record->length > reserve + 6; text++) {
    const unsigned char byte = (unsigned char)*text;
    const char control[] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
    if (byte == '\n') {
      put(record, "\\n", 2);
    } else if (byte == '"' || byte == '\\') {
      put(record, (const char[]){'\\', (char)byte}, 2);
    } else if (byte < 0x20) {
      put(record, control, sizeof(control));
    } else {
      put(record, text, 1);
    }
  }
}

void report_frame(int fd, int code, const char* text) {
  if (fd < 0) return;
  static struct record record;
  static const char tail[] = "\",\"code\":";
  record.length = FRAME_HEADER;
  put_text(&record, "{\"level\":60,\"time\":");
  put_number(&record, milliseconds(CLOCK_REALTIME));
  put_text(&record, ",\"name\":\"engine\",\"msg\":\"");
  put_escaped(&record, text, sizeof(tail) + 24);
  put_text(&record, tail);
  put_number(&record, code);
  put_text(&record, "}");
  const uint32_t size = (uint32_t)record.length - 4;
  for (int index = 0; index < 4; index++) record.bytes[index] = (char)(size >> 8 * index);
  record.bytes[4] = FRAME_LOG;
  memset(record.bytes + 5, 0, 4);  // Stream 0.
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return;
  write_until(fd, record.bytes, record.length, milliseconds(CLOCK_MONOTONIC) + PATIENCE);
}
