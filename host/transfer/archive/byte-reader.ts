/** Bytes that come in pieces, handed out in the sizes that a format needs. */
import type { Bytes } from '../types.ts';

const NOTHING = new Uint8Array(0);

export class ByteReader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = NOTHING;
  #at = 0;
  #taken = 0;
  #ended = false;

  constructor(bytes: Bytes) {
    this.#iterator = bytes[Symbol.asyncIterator]();
  }

  /** Bytes handed out so far. */
  get offset(): number {
    return this.#taken;
  }

  /** The next bytes, at least 1 and at most `most`, valid until the next call; empty at the end. */
  async take(most: number): Promise<Uint8Array> {
    while (this.#at === this.#piece.byteLength && !this.#ended) await this.#fill();
    return this.#cut(most);
  }

  /** Exactly `size` bytes if they are there already, valid until the next call; else null. */
  ready(size: number): Uint8Array | null {
    return this.#piece.byteLength - this.#at < size ? null : this.#cut(size);
  }

  /** Exactly `size` bytes, which the caller may keep; fewer only at the end. */
  async exactly(size: number): Promise<Buffer> {
    const result = Buffer.allocUnsafe(size);
    let filled = 0;
    while (filled < size) {
      const piece = await this.take(size - filled);
      if (piece.byteLength === 0) break;
      result.set(piece, filled);
      filled += piece.byteLength;
    }
    return result.subarray(0, filled);
  }

  /** Leaves the bytes. */
  async close(): Promise<void> {
    this.#ended = true;
    this.#piece = NOTHING;
    this.#at = 0;
    await this.#iterator.return?.();
  }

  #cut(most: number): Uint8Array {
    const part = this.#piece.subarray(this.#at, this.#at + most);
    this.#at += part.byteLength;
    this.#taken += part.byteLength;
    return part;
  }

  async #fill(): Promise<void> {
    this.#piece = NOTHING;
    this.#at = 0;
    const { done, value } = await this.#iterator.next();
    if (done) this.#ended = true;
    else this.#piece = value;
  }
}
