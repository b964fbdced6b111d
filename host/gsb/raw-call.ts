/**
 * A CallRequest as upstream writes it (exe-unit.md 1.3), found in its bytes: for frames, which come too often to be decoded
 * as other packets are. Anything else that means the same is not recognised, and goes the other way.
 */
import { copyBytes } from './copy-bytes.ts';

/** Fields and their wire types, as they are written. */
export const TAG = {
  callRequest: 0x32,
  caller: 0x0a,
  address: 0x12,
  requestId: 0x1a,
  data: 0x22,
  noReply: 0x28,
} as const;

/** Bytes of a request id at most. */
const MAX_ID = 64;
const ASCII = 0x7f;

/** Where things are in the bytes of the packet that was looked at last. One is used again and again. */
export class RawCall {
  /** Caller and address, one behind the other, each with tag and length: they are the same from frame to frame. */
  keyStart = 0;
  keyEnd = 0;
  /** Request id, without tag and length. Ends where the data's field, or the packet, goes on. */
  idStart = 0;
  idEnd = 0;
  dataStart = 0;
  dataEnd = 0;
  noReply = false;
  #at = 0;

  /** Whether `bytes[start…end)` is such a packet. Caller and address may still be no UTF-8; the id is ASCII. */
  find(bytes: Uint8Array, start: number, end: number): boolean {
    if (bytes[start] !== TAG.callRequest) return false;
    this.#at = start + 1;
    if (this.#length(bytes, end) !== end) return false;
    this.keyStart = this.#at;
    if (!this.#skip(TAG.caller, bytes, end) || !this.#skip(TAG.address, bytes, end)) return false;
    this.keyEnd = this.#at;
    return this.#findId(bytes, end) && this.#findRest(bytes, end);
  }

  #findId(bytes: Uint8Array, end: number): boolean {
    if (bytes[this.#at++] !== TAG.requestId) return false;
    const idEnd = this.#length(bytes, end);
    if (idEnd < 0 || idEnd - this.#at > MAX_ID) return false;
    this.idStart = this.#at;
    this.idEnd = idEnd;
    for (let at = this.#at; at < idEnd; at++) if ((bytes[at] as number) > ASCII) return false;
    this.#at = idEnd;
    return true;
  }

  #findRest(bytes: Uint8Array, end: number): boolean {
    this.dataStart = this.dataEnd = this.#at;
    if (this.#at < end && bytes[this.#at] === TAG.data) {
      this.#at++;
      const dataEnd = this.#length(bytes, end);
      if (dataEnd < 0) return false;
      this.dataStart = this.#at;
      this.dataEnd = this.#at = dataEnd;
    }
    this.noReply = this.#at + 2 === end && bytes[this.#at] === TAG.noReply && bytes[this.#at + 1] === 1;
    return this.noReply || this.#at === end;
  }

  #skip(tag: number, bytes: Uint8Array, end: number): boolean {
    if (this.#at >= end || bytes[this.#at++] !== tag) return false;
    const next = this.#length(bytes, end);
    if (next < 0) return false;
    this.#at = next;
    return true;
  }

  /** Reads a length, of which there is one; where what is so long ends, −1 when that is not before `end`. */
  #length(bytes: Uint8Array, end: number): number {
    let length = 0;
    for (let shift = 0; shift < 28 && this.#at < end; shift += 7) {
      const byte = bytes[this.#at++] as number;
      length |= (byte & 0x7f) << shift;
      if (byte <= 0x7f) return length > 0 && length <= end - this.#at ? this.#at + length : -1;
    }
    return -1;
  }
}

/** Bytes that a length takes. */
export function lengthSize(length: number): number {
  return length < 0x80 ? 1 : length < 0x4000 ? 2 : length < 0x200000 ? 3 : 4;
}

/** Writes a length; returns where it ends. */
export function writeLength(length: number, to: Uint8Array, at: number): number {
  while (length > 0x7f) {
    to[at++] = (length & 0x7f) | 0x80;
    length >>>= 7;
  }
  to[at++] = length;
  return at;
}

/** Bytes of a call's packet with its length, whose fields take `fields` bytes. */
export function callSize(fields: number): number {
  return 4 + 1 + lengthSize(fields) + fields;
}

/** Writes what comes before the fields; returns where they begin. */
export function writeCallHead(fields: number, to: Uint8Array, at: number): number {
  const length = 1 + lengthSize(fields) + fields;
  to[at] = length >>> 24;
  to[at + 1] = length >>> 16;
  to[at + 2] = length >>> 8;
  to[at + 3] = length;
  to[at + 4] = TAG.callRequest;
  return writeLength(fields, to, at + 5);
}

/** A text as a field. Empty for an empty one: those are left out. */
export function textField(tag: number, text: string): Uint8Array {
  const bytes = Buffer.from(text);
  if (bytes.length === 0) return bytes;
  const field = Buffer.alloc(1 + lengthSize(bytes.length) + bytes.length);
  field[0] = tag;
  copyBytes(bytes, 0, bytes.length, field, writeLength(bytes.length, field, 1));
  return field;
}
