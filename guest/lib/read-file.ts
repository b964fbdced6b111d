/** Text files of the image, read with a bound on their size and without trust in what they are. */
import type { Native } from '../../native/face.ts';
import { O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDONLY, S_IFMT, S_IFREG } from './constants.ts';

/** Most kernel files fit; the buffer is shared, since PID 1 has one thread. */
const chunk = new Uint8Array(4096);

/**
 * A text file of the image, resolved beneath `rootFd`; null when it is missing or is no regular file
 * (an image may put a fifo or a device there: it must not block PID 1). Longer files are cut at `maximum` bytes.
 */
export function readTextFile(native: Native, rootFd: number, path: string, maximum: number): string | null {
  let fd: number;
  try {
    fd = native.openBeneath(rootFd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
  } catch {
    return null;
  }
  try {
    if ((native.fstat(fd).mode & S_IFMT) !== S_IFREG) return null;
    return readAll(native, fd, maximum);
  } finally {
    native.close(fd);
  }
}

/** Reads until the end or `maximum` bytes. */
function readAll(native: Native, fd: number, maximum: number): string {
  const first = native.read(fd, chunk);
  if (first <= 0) return '';
  // Nearly every file here is smaller than the chunk: one more read proves the end, and nothing is copied.
  let filled = first;
  const stream = new TextDecoder();
  let text = '';
  let total = first;
  for (;;) {
    if (filled === chunk.byteLength) {
      text += stream.decode(chunk, { stream: true });
      filled = 0;
    }
    const count = total < maximum ? native.read(fd, chunk.subarray(filled)) : 0;
    if (count <= 0) break;
    filled += count;
    total += count;
  }
  const surplus = Math.max(0, total - maximum);
  return text + stream.decode(chunk.subarray(0, Math.max(0, filled - surplus)));
}
