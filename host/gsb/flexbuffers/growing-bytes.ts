/** A buffer that grows, and the little-endian numbers that FlexBuffers are made of. */
import type { WidthBits } from './format.ts';
import { bodyError } from './format.ts';

/** Bytes of a body that is written, at most; offsets beyond 4 GiB are not supported, and no peer wants them. */
const MAX_WRITTEN = 1024 * 1024 * 1024;
const FIRST_SIZE = 256;
/** Room beside what is written at once: most bodies are one large value and a little around it. */
const SLACK = 512;

export class GrowingBytes {
  #buffer: Buffer = Buffer.allocUnsafe(FIRST_SIZE);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** What was written: a view. */
  finish(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Zeros up to the next multiple of the width. */
  align(width: WidthBits): void {
    const padding = -this.#length & ((1 << width) - 1);
    this.#reserve(padding);
    for (let left = padding; left > 0; left--) this.#buffer[this.#length++] = 0;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  bytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** As UTF-8, `length` bytes. */
  text(text: string, length: number): void {
    this.#reserve(length);
    this.#buffer.write(text, this.#length, length, 'utf8');
    this.#length += length;
  }

  /** Each byte as an unsigned integer of the width. */
  widened(bytes: Uint8Array, width: WidthBits): void {
    if (width === 0) {
      this.bytes(bytes);
      return;
    }
    const size = bytes.length << width;
    this.#reserve(size);
    const { buffer, byteOffset } = this.#buffer;
    const target = new Uint8Array(buffer, byteOffset + this.#length, size).fill(0);
    for (let index = 0; index < bytes.length; index++) target[index << width] = bytes[index] as number;
    this.#length += size;
  }

  /** The low bytes of an integer, signed or not. */
  integer(value: number | bigint, width: WidthBits): void {
    this.#reserve(8);
    if (width === 3) {
      this.#length = this.#buffer.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), this.#length);
      return;
    }
    // Past 32 bits only the width of 8 bytes is chosen, so that nothing is lost here.
    let rest = Number(value) | 0;
    for (let left = 1 << width; left > 0; left--, rest >>= 8) this.#buffer[this.#length++] = rest;
  }

  float(value: number, width: WidthBits): void {
    this.#reserve(8);
    const buffer = this.#buffer;
    this.#length =
      width === 3 ? buffer.writeDoubleLE(value, this.#length) : buffer.writeFloatLE(value, this.#length);
  }

  #reserve(more: number): void {
    const wanted = this.#length + more;
    if (wanted <= this.#buffer.length) return;
    if (wanted > MAX_WRITTEN) throw bodyError(`more than ${MAX_WRITTEN} bytes`);
    const grown = Buffer.allocUnsafe(Math.max(wanted + SLACK, 2 * this.#buffer.length));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
  }
}
