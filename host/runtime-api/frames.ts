/** Frames on the runtime's standard input: each message behind its length as a varint. Survives any bytes. */
import { YavmError } from '../lib/errors.ts';

/** Largest request that is read, bytes: what the guest takes of arguments and environment. */
export const MAX_REQUEST = 1024 * 1024;
/** A length beyond this is none: the stream is not the runtime API. A frame up to here is passed over and refused. */
const MAX_LENGTH = 2 ** 31;
/** Bytes kept of a request that is too long: its number stands in front. */
const HEAD = 16;

/** A message's bytes; or, of one that is longer than {@link MAX_REQUEST}, its length and how it began. */
export type Frame = { bytes: Uint8Array } | { tooLong: number; head: Uint8Array };

/** Takes the stream apart, whatever portions it comes in. Holds one message at most. */
export class FrameDecoder {
  /** Bits of the length so far, and how many bytes of it came. */
  #length = 0;
  #lengthBytes = 0;
  #body: Uint8Array | null = null;
  #filled = 0;
  #broken: YavmError | null = null;

  /** @throws {YavmError} YAVM_E_RUNTIME_FRAME when this is no stream of frames; then nothing more can be read. */
  *push(chunk: Uint8Array): Generator<Frame, void, undefined> {
    if (this.#broken) throw this.#broken;
    let at = 0;
    while (at < chunk.length) {
      if (this.#body === null) {
        if (!this.#readLength(chunk[at++] as number)) continue;
      } else {
        at += this.#fill(chunk.subarray(at));
      }
      if (this.#filled === this.#length) yield this.#take();
    }
  }

  /** True in the middle of a frame: the end of the stream now would cut it off. */
  get partial(): boolean {
    return this.#lengthBytes > 0;
  }

  /** @returns whether the length is complete. */
  #readLength(byte: number): boolean {
    this.#length += (byte & 0x7f) * 2 ** (7 * this.#lengthBytes++);
    if (this.#length > MAX_LENGTH || this.#lengthBytes > 5) {
      this.#broken = new YavmError(
        'YAVM_E_RUNTIME_FRAME',
        'standard input is not the runtime API: no length',
      );
      throw this.#broken;
    }
    if (byte >= 0x80) return false;
    this.#body = new Uint8Array(this.#length > MAX_REQUEST ? HEAD : this.#length);
    return true;
  }

  /** @returns how many of the bytes belong to this frame. */
  #fill(bytes: Uint8Array): number {
    const body = this.#body as Uint8Array;
    const piece = bytes.subarray(0, this.#length - this.#filled);
    if (this.#filled < body.length) body.set(piece.subarray(0, body.length - this.#filled), this.#filled);
    this.#filled += piece.length;
    return piece.length;
  }

  #take(): Frame {
    const body = this.#body as Uint8Array;
    const length = this.#length;
    this.#body = null;
    this.#length = this.#lengthBytes = this.#filled = 0;
    return length > MAX_REQUEST ? { tooLong: length, head: body } : { bytes: body };
  }
}
