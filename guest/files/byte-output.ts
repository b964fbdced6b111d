/** A blocking descriptor, written in large chunks. */
import type { Native } from '../../native/face.ts';
import { writeAll } from '../lib/replace-file.ts';
import { CHUNK } from './byte-input.ts';

export class ByteOutput {
  readonly #native: Native;
  readonly #fd: number;
  readonly #buffer = new Uint8Array(CHUNK);
  #filled = 0;
  #flushed = 0;

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

  /** Reads at most `most` bytes from `fd` straight into the buffer; returns how many, fewer only at the end. @throws NativeError */
  copyFrom(fd: number, most: number): number {
    let copied = 0;
    while (copied < most) {
      const count = this.#native.read(fd, this.#room().subarray(0, most - copied));
      if (count <= 0) break;
      this.#filled += count;
      copied += count;
    }
    return copied;
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
