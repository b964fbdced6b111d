/** Raw calls without answers, all to one address: written as upstream's encoder would, the same parts made once. */
import { randomBytes } from 'node:crypto';
import { copyBytes } from './copy-bytes.ts';
import type { FrameBatch } from './frame-batch.ts';
import { callSize, lengthSize, TAG, textField, writeCallHead, writeLength } from './raw-call.ts';

/** Bytes of a frame that are sent this way; larger ones gain nothing by it. */
export const MAX_PUSHED = 128 * 1024;
/** Hexadecimal digits by which one request id differs from the next. */
const DIGITS = 12;
const NINE = 0x39;
const A = 0x61;
const F = 0x66;
/** Bytes of `no_reply: true`. */
const NO_REPLY = 2;

/** Writes such calls to batches. Its request ids are as unique as 96 random bits, and have one width. */
export class FrameWriter {
  /** Caller, address and request id, whose last digits count. */
  readonly #fields: Uint8Array;

  constructor(address: string, caller: string) {
    const id = randomBytes(12).toString('hex') + '0'.repeat(DIGITS);
    const fields = [
      textField(TAG.caller, caller),
      textField(TAG.address, address),
      textField(TAG.requestId, id),
    ];
    this.#fields = Buffer.concat(fields);
  }

  /** At most {@link MAX_PUSHED} bytes of data. False: the batch has no room for it. */
  write(data: Uint8Array, offset: number, length: number, batch: FrameBatch): boolean {
    const same = this.#fields;
    const dataField = length === 0 ? 0 : 1 + lengthSize(length) + length;
    const fields = same.length + dataField + NO_REPLY;
    const size = callSize(fields);
    let at = batch.reserve(size);
    if (at < 0) return false;
    const to = batch.buffer;
    this.#count();
    at = writeCallHead(fields, to, at);
    copyBytes(same, 0, same.length, to, at);
    at += same.length;
    if (length > 0) {
      to[at] = TAG.data;
      at = writeLength(length, to, at + 1);
      copyBytes(data, offset, offset + length, to, at);
      at += length;
    }
    to[at] = TAG.noReply;
    to[at + 1] = 1;
    batch.commit(size);
    return true;
  }

  /** The next id: as an odometer, digit for digit. */
  #count(): void {
    const fields = this.#fields;
    for (let at = fields.length - 1; at >= fields.length - DIGITS; at--) {
      const digit = fields[at] as number;
      if (digit !== F) {
        fields[at] = digit === NINE ? A : digit + 1;
        return;
      }
      fields[at] = 0x30;
    }
  }
}
