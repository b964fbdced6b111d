/** A blocking descriptor, read in large chunks and handed out in pieces. */
import type { Native } from '../../native/face.ts';
import { GuestError } from '../errors.ts';
import { badArchive } from './pax.ts';

/** Bytes a read: what a pipe of the agent holds. */
export const CHUNK = 256 * 1024;

export class ByteInput {
  readonly #native: Native;
  readonly #fd: number;
  readonly #buffer = new Uint8Array(CHUNK);
  #start = 0;
  #end = 0;
  #taken = 0;
  /** To be read at the end; -1 when the end says it all, or has been confirmed. */
  #wholeFd: number;

  /** `wholeFd`: brings a byte when the bytes of `fd` came to an end of their own, and its end when they were broken off. */
  constructor(native: Native, fd: number, wholeFd = -1) {
    this.#native = native;
    this.#fd = fd;
    this.#wholeFd = wholeFd;
  }

  /** Bytes handed out so far. */
  get offset(): number {
    return this.#taken;
  }

  /**
   * The next bytes, at least 1 and at most `most`, valid until the next call; empty at the end.
   * @throws NativeError; {GuestError} file-failed when the bytes were broken off
   */
  take(most: number): Uint8Array {
    if (this.#start === this.#end) this.#fill();
    const size = Math.min(most, this.#end - this.#start);
    const piece = this.#buffer.subarray(this.#start, this.#start + size);
    this.#start += size;
    this.#taken += size;
    return piece;
  }

  /**
   * Exactly `size` bytes, which the caller may keep; null when the input ends before the first.
   * @throws {GuestError} bad-archive when it ends within them
   */
  exactly(size: number): Uint8Array | null {
    const result = new Uint8Array(size);
    let filled = 0;
    while (filled < size) {
      const piece = this.take(size - filled);
      if (piece.byteLength === 0) {
        if (filled === 0) return null;
        throw badArchive('unexpected end', this.#taken);
      }
      result.set(piece, filled);
      filled += piece.byteLength;
    }
    return result;
  }

  /** Hands the next `size` bytes to `sink`, piece by piece. @throws {GuestError} bad-archive when there are fewer */
  copy(size: number, sink: (piece: Uint8Array) => void): void {
    for (let left = size; left > 0; ) {
      const piece = this.take(left);
      if (piece.byteLength === 0) throw badArchive('unexpected end', this.#taken);
      sink(piece);
      left -= piece.byteLength;
    }
  }

  /** Reads to the end of the input. */
  drain(): void {
    while (this.take(CHUNK).byteLength > 0);
  }

  #fill(): void {
    this.#start = 0;
    this.#end = Math.max(0, this.#native.read(this.#fd, this.#buffer));
    if (this.#end === 0 && this.#wholeFd >= 0) this.#confirm();
  }

  #confirm(): void {
    if (this.#native.read(this.#wholeFd, new Uint8Array(1)) !== 1) {
      throw new GuestError('file-failed', `the transfer was given up after ${this.#taken} bytes`, {
        errno: 'ECANCELED',
      });
    }
    this.#wholeFd = -1;
  }
}
