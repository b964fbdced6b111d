/** A blocking descriptor, read in large chunks and handed out in pieces. */
import type { Native } from '../../native/face.ts';
import { GuestError } from '../errors.ts';
import { badArchive } from './pax.ts';

/**
 * Bytes held of a transfer, and read or written at once. Twice the size makes a large file a tenth faster, half of it a
 * third slower; there may be 32 of them.
 */
export const CHUNK = 512 * 1024;
/** Of memory and of the file systems that there are: what starts on one can go to a disk without being copied. */
const BLOCK = 4096;

export class ByteInput {
  readonly #native: Native;
  readonly #fd: number;
  /** Starts on a page, and is filled as a whole: so a tar's blocks, and what is in them, lie as a disk wants them. */
  readonly buffer: Uint8Array;
  #start = 0;
  #end = 0;
  #taken = 0;
  #ended = false;
  /** To be read at the end; -1 when the end says it all. */
  readonly #wholeFd: number;

  /** `wholeFd`: brings a byte when the bytes of `fd` came to an end of their own, and its end when they were broken off. */
  constructor(native: Native, fd: number, wholeFd = -1) {
    this.#native = native;
    this.#fd = fd;
    this.#wholeFd = wholeFd;
    const memory = new Uint8Array(CHUNK + BLOCK);
    const start = (BLOCK - native.pageOffset(memory)) % BLOCK;
    this.buffer = memory.subarray(start, start + CHUNK);
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
    return this.#hand(Math.min(most, this.#end - this.#start));
  }

  /**
   * The place in `buffer` of the next `size` bytes (`CHUNK` at most), which are taken and valid until the next call; -1 when
   * the input ends before the first. @throws {GuestError} bad-archive when it ends within them
   */
  reserve(size: number): number {
    if (!this.#gather(size)) {
      if (this.#start === this.#end) return -1;
      throw this.#cutOff();
    }
    const at = this.#start;
    this.#start += size;
    this.#taken += size;
    return at;
  }

  /**
   * Hands the next `size` bytes to `sink`, in pieces that are whole blocks but for the last.
   * @throws {GuestError} bad-archive when there are fewer
   */
  copy(size: number, sink: (piece: Uint8Array) => void): void {
    for (let left = size; left > 0; ) {
      if (!this.#gather(Math.min(left, BLOCK))) throw this.#cutOff();
      const there = this.#end - this.#start;
      const piece = this.#hand(there < left ? there - (there % BLOCK) : left);
      sink(piece);
      left -= piece.byteLength;
    }
  }

  /** What is in the buffer, without taking it; as much as is there, perhaps nothing. */
  get waiting(): Uint8Array {
    return this.buffer.subarray(this.#start, this.#end);
  }

  /** Takes bytes that are in the buffer. */
  skip(size: number): void {
    this.#hand(size);
  }

  /** Reads to the end of the input. */
  drain(): void {
    while (this.take(CHUNK).byteLength > 0);
  }

  #hand(size: number): Uint8Array {
    const piece = this.buffer.subarray(this.#start, this.#start + size);
    this.#start += size;
    this.#taken += size;
    return piece;
  }

  /** Brings the next `size` bytes together; false when there are fewer. */
  #gather(size: number): boolean {
    if (this.#end - this.#start < size) this.#fill();
    return this.#end - this.#start >= size;
  }

  /** Moves what is left to the front, and reads until the buffer is full or the input at its end. */
  #fill(): void {
    this.buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    while (this.#end < CHUNK && !this.#ended) {
      const count = this.#native.read(this.#fd, this.buffer.subarray(this.#end));
      if (count > 0) this.#end += count;
      else this.#confirm();
    }
  }

  #confirm(): void {
    this.#ended = true;
    if (this.#wholeFd < 0 || this.#native.read(this.#wholeFd, new Uint8Array(1)) === 1) return;
    const bytes = this.#taken + this.#end - this.#start;
    throw new GuestError('file-failed', `the transfer was given up after ${bytes} bytes`, {
      errno: 'ECANCELED',
    });
  }

  #cutOff(): GuestError {
    return badArchive('unexpected end', this.#taken + this.#end - this.#start);
  }
}
