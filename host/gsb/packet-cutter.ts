/** Cuts a byte stream into packets, each behind its length (exe-unit.md 1.2), without making anything for them. */
import { YavmError } from '../lib/errors.ts';
import { copyBytes } from './copy-bytes.ts';

/** Bytes of a packet at most, without its length: an Exec's script or a batch's results have room. */
export const MAX_PACKET = 64 * 1024 * 1024;
/** Bytes of the length before a packet. */
export const LENGTH_BYTES = 4;

/** Memory for a packet that is not complete, as a multiple of what is there: an event of 128 KiB fits at its first 64. */
const GROWTH = 4;
/** Bytes of such memory that are kept for the next packet. */
const KEPT = 128 * 1024;
const NO_BYTES = new Uint8Array(0);

export interface CutterOptions {
  /** Bytes of a packet that is accepted, without its length. Default {@link MAX_PACKET}. */
  most?: number;
  /** The memory that is fed is used again: what is kept of it is copied. */
  volatile?: boolean;
}

/**
 * Holds one incomplete packet at most, and no more memory than four times what has arrived of it (or {@link KEPT}).
 * `bytes[start…end)` is the packet that `next` has found, its length right before it, until the next call of either.
 */
export class PacketCutter {
  bytes: Uint8Array = NO_BYTES;
  start = 0;
  end = 0;
  readonly #most: number;
  readonly #volatile: boolean;
  /** What was fed, and how much of it was read. */
  #input: Uint8Array = NO_BYTES;
  #at = 0;
  #inputEnd = 0;
  /** The beginning of a packet and its length, `#held` bytes of it. */
  #buffer: Uint8Array = NO_BYTES;
  #held = 0;

  constructor({ most = MAX_PACKET, volatile = false }: CutterOptions = {}) {
    this.#most = most;
    this.#volatile = volatile;
  }

  /** Takes the stream's next bytes, when `next` has found the last packet of those before. */
  feed(bytes: Uint8Array, length: number = bytes.length): void {
    this.#input = bytes;
    this.#at = 0;
    this.#inputEnd = length;
  }

  /** Whether there is another packet. @throws {YavmError} YAVM_E_GSB_FRAME for one that is too long; nothing can follow */
  next(): boolean {
    if (this.#held === 0) {
      const start = this.#at + LENGTH_BYTES;
      if (start <= this.#inputEnd) {
        const end = start + this.#lengthAt(this.#input, this.#at);
        if (end <= this.#inputEnd) {
          this.bytes = this.#input;
          this.start = start;
          this.end = end;
          this.#at = end;
          return true;
        }
      }
      if (this.#buffer.length > KEPT) this.#buffer = NO_BYTES;
    }
    while (this.#at < this.#inputEnd) if (this.#hold()) return true;
    this.bytes = NO_BYTES;
    this.#input = NO_BYTES;
    return false;
  }

  /** The packet's bytes, which stay as they are. */
  keep(): Uint8Array {
    const { bytes, start, end } = this;
    if (bytes === this.#buffer) this.#buffer = NO_BYTES;
    else if (this.#volatile) return Buffer.from(bytes.subarray(start, end));
    return bytes.subarray(start, end);
  }

  /** Bytes of an incomplete packet that have arrived. */
  get held(): number {
    return this.#held;
  }

  #lengthAt(bytes: Uint8Array, at: number): number {
    const high = (bytes[at] as number) * 0x1000000 + ((bytes[at + 1] as number) << 16);
    const length = high + ((bytes[at + 2] as number) << 8) + (bytes[at + 3] as number);
    if (length > this.#most) throw longError(length, this.#most);
    return length;
  }

  /** Keeps what belongs to the packet that is being collected; true: it is complete. */
  #hold(): boolean {
    const known = this.#held >= LENGTH_BYTES;
    const whole = LENGTH_BYTES + (known ? this.#lengthAt(this.#buffer, 0) : 0);
    const taken = Math.min(this.#inputEnd - this.#at, whole - this.#held);
    const size = this.#held + taken;
    if (size > this.#buffer.length) {
      // Grown, not allocated as announced: who announces 64 MiB has to send them before they cost anything.
      const grown = Buffer.allocUnsafeSlow(Math.max(size, Math.min(whole, GROWTH * size)));
      grown.set(this.#buffer.subarray(0, this.#held));
      this.#buffer = grown;
    }
    copyBytes(this.#input, this.#at, this.#at + taken, this.#buffer, this.#held);
    this.#at += taken;
    this.#held = size;
    if (size < LENGTH_BYTES || size < LENGTH_BYTES + this.#lengthAt(this.#buffer, 0)) return false;
    this.bytes = this.#buffer;
    this.start = LENGTH_BYTES;
    this.end = size;
    this.#held = 0;
    return true;
  }
}

function longError(length: number, most: number): YavmError {
  const text = `not a packet of the bus: ${length} bytes are announced, ${most} are accepted`;
  return new YavmError('YAVM_E_GSB_FRAME', text);
}
