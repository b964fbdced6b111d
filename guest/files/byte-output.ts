/** A blocking descriptor, written in large chunks. A pipe gets a large file's own pages: copies are what costs. */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { writeAll } from '../lib/replace-file.ts';

/** Bytes a write: what costs little beside the calls that bring them. */
const CHUNK = 256 * 1024;
/** From so many bytes on, a file's pages are passed on instead of copied. */
const WORTH_PAGES = 128 * 1024;
/** Bytes a call: what a pipe of the agent holds. */
const MOST_PAGES = 1024 * 1024;

export class ByteOutput {
  readonly #native: Native;
  readonly #fd: number;
  readonly #buffer = new Uint8Array(CHUNK);
  #filled = 0;
  #flushed = 0;
  /** Whether the descriptor takes pages, as a pipe does. */
  #takesPages = true;

  constructor(native: Native, fd: number) {
    this.#native = native;
    this.#fd = fd;
  }

  /** Bytes put in so far. */
  get total(): number {
    return this.#flushed + this.#filled;
  }

  /** Queues bytes. @throws NativeError */
  put(bytes: Uint8Array): void {
    for (let offset = 0; offset < bytes.byteLength; ) {
      const room = this.#room();
      const piece = bytes.subarray(offset, offset + room.byteLength);
      room.set(piece);
      this.#filled += piece.byteLength;
      offset += piece.byteLength;
    }
  }

  /** Queues `count` zero bytes. */
  zeros(count: number): void {
    for (let left = count; left > 0; ) {
      const room = this.#room();
      const size = Math.min(left, room.byteLength);
      room.fill(0, 0, size);
      this.#filled += size;
      left -= size;
    }
  }

  /** Passes on at most `most` bytes of `fd`; returns how many, fewer only at the end. @throws NativeError */
  copyFrom(fd: number, most: number): number {
    let copied = this.#takesPages && most >= WORTH_PAGES ? this.#movePages(fd, most) : 0;
    while (copied < most) {
      const count = this.#native.read(fd, this.#room().subarray(0, most - copied));
      if (count <= 0) break;
      this.#filled += count;
      copied += count;
    }
    return copied;
  }

  #movePages(fd: number, most: number): number {
    this.flush();
    let moved = 0;
    try {
      while (moved < most) {
        const count = this.#native.splice(fd, this.#fd, Math.min(most - moved, MOST_PAGES));
        if (count <= 0) break;
        moved += count;
        this.#flushed += count;
      }
    } catch (error) {
      // No pipe, or a file system that has no pages.
      if (!hasErrno(error, 'EINVAL')) throw error;
      this.#takesPages = false;
    }
    return moved;
  }

  /** Writes what is queued. @throws NativeError */
  flush(): void {
    writeAll(this.#native, this.#fd, this.#buffer.subarray(0, this.#filled));
    this.#flushed += this.#filled;
    this.#filled = 0;
  }

  /** The free part of the buffer, never empty. */
  #room(): Uint8Array {
    if (this.#filled === this.#buffer.byteLength) this.flush();
    return this.#buffer.subarray(this.#filled);
  }
}
