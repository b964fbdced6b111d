/** Messages of DNS (RFC 1035) as far as a filter reads them. What cannot be read is null, never an error. */
import { readU16, readU32, writeU16 } from './layout.ts';

export const DNS_TYPE = { a: 1, cname: 5, aaaa: 28, opt: 41 } as const;
export const DNS_PORT = 53;
/** Response codes (RFC 1035 4.1.1). */
export const DNS_CODE = { ok: 0, noSuchName: 3 } as const;

const HEADER = 12;
const CLASS_IN = 1;
/** Bits of the flags' word. */
const FLAG = {
  response: 0x8000,
  opcode: 0x7800,
  truncated: 0x0200,
  recursion: 0x0100,
  available: 0x0080,
} as const;
/** Bytes of a name without compression. */
const MAX_NAME = 255;
/** Records of an answer that are read; more are not looked at. */
const MAX_RECORDS = 256;

export interface DnsQuery {
  id: number;
  /** Canonical: see {@link readName}. */
  name: string;
  type: number;
  /** Offset behind the question. */
  end: number;
}

export interface DnsRecord {
  owner: string;
  /** Seconds. */
  ttl: number;
  data: { cname: string } | { address: Uint8Array };
}

export interface DnsAnswer {
  id: number;
  name: string;
  type: number;
  /** Of the answer section: addresses and other names. Empty for an answer without success. */
  records: DnsRecord[];
}

/**
 * A query for one name that is nothing but that: no answers in it, and nothing behind it but the one record of EDNS.
 * Null for anything else.
 */
export function readQuery(bytes: Uint8Array, start: number, length: number): DnsQuery | null {
  const end = start + length;
  if (length < HEADER) return null;
  const flags = readU16(bytes, start + 2);
  if (flags & (FLAG.response | FLAG.opcode | FLAG.truncated)) return null;
  if (readU16(bytes, start + 4) !== 1 || readU32(bytes, start + 6) !== 0) return null;
  const question = readQuestion(bytes, start, end);
  if (question === null) return null;
  const additional = readU16(bytes, start + 10);
  if (additional > 1) return null;
  if (additional === 1) {
    const at = question.end;
    // EDNS (RFC 6891): the root's name, its type, and data to the end.
    if (at + 11 > end || bytes[at] !== 0 || readU16(bytes, at + 1) !== DNS_TYPE.opt) return null;
    if (at + 11 + readU16(bytes, at + 9) !== end) return null;
  } else if (question.end !== end) return null;
  return { id: readU16(bytes, start), ...question };
}

/** An answer to one question. Null for anything else; records that cannot be read end it. */
export function readAnswer(bytes: Uint8Array, start: number, length: number): DnsAnswer | null {
  const end = start + length;
  if (length < HEADER) return null;
  const flags = readU16(bytes, start + 2);
  if (!(flags & FLAG.response) || flags & FLAG.opcode || readU16(bytes, start + 4) !== 1) return null;
  const question = readQuestion(bytes, start, end);
  if (question === null) return null;
  const records: DnsRecord[] = [];
  const count = (flags & 0xf) === DNS_CODE.ok ? Math.min(readU16(bytes, start + 6), MAX_RECORDS) : 0;
  let at = question.end;
  for (let index = 0; index < count; index++) {
    const owner = readName(bytes, start, at, end);
    if (owner === null || owner.end + 10 > end) break;
    const data = owner.end + 10;
    const size = readU16(bytes, owner.end + 8);
    if (data + size > end) break;
    const record = readData(bytes, start, readU16(bytes, owner.end), data, size, end);
    if (record !== null && readU16(bytes, owner.end + 2) === CLASS_IN) {
      const ttl = readU32(bytes, owner.end + 4);
      // A TTL with its first bit set is none (RFC 2181 8).
      records.push({ owner: owner.name, ttl: ttl > 0x7fffffff ? 0 : ttl, data: record });
    }
    at = data + size;
  }
  return { id: readU16(bytes, start), name: question.name, type: question.type, records };
}

/** The answer `there is no such name` to a query, at `at` of `into`; returns its length. */
export function writeNoSuchName(
  into: Uint8Array,
  at: number,
  bytes: Uint8Array,
  start: number,
  query: DnsQuery,
): number {
  const length = query.end - start;
  into.set(bytes.subarray(start, query.end), at);
  const recursion = readU16(bytes, start + 2) & FLAG.recursion;
  writeU16(into, at + 2, FLAG.response | recursion | FLAG.available | DNS_CODE.noSuchName);
  into.fill(0, at + 6, at + HEADER);
  return length;
}

function readQuestion(
  bytes: Uint8Array,
  start: number,
  end: number,
): Pick<DnsQuery, 'name' | 'type' | 'end'> | null {
  // Nothing comes before it that it could point to.
  const name = readName(bytes, start, start + HEADER, end, 'whole');
  if (name === null || name.end + 4 > end || readU16(bytes, name.end + 2) !== CLASS_IN) return null;
  return { name: name.name, type: readU16(bytes, name.end), end: name.end + 4 };
}

function readData(
  bytes: Uint8Array,
  start: number,
  type: number,
  at: number,
  size: number,
  end: number,
): DnsRecord['data'] | null {
  if ((type === DNS_TYPE.a && size === 4) || (type === DNS_TYPE.aaaa && size === 16)) {
    return { address: bytes.slice(at, at + size) };
  }
  if (type !== DNS_TYPE.cname) return null;
  const name = readName(bytes, start, at, end);
  return name?.end === at + size ? { cname: name.name } : null;
}

/**
 * A name in lower case, labels joined by dots, without the last one. A byte that a label of a host's name has not is written as
 * `\` and three digits, so that two names never have one text. A pointer must lead backwards: so there are no loops.
 */
export function readName(
  bytes: Uint8Array,
  start: number,
  at: number,
  end: number,
  form: 'whole' | 'compressed' = 'compressed',
): { name: string; end: number } | null {
  let name = '';
  let size = 1;
  let after = -1;
  let before = at;
  for (let position = at; ; ) {
    if (position >= end) return null;
    const length = bytes[position] as number;
    if (length === 0) return { name, end: after < 0 ? position + 1 : after };
    if (length >= 0xc0) {
      if (form === 'whole' || position + 1 >= end) return null;
      const target = start + (readU16(bytes, position) & 0x3fff);
      if (after < 0) after = position + 2;
      if (target >= before) return null;
      position = before = target;
    } else {
      size += 1 + length;
      if (length > 63 || size > MAX_NAME || position + 1 + length > end) return null;
      if (name !== '') name += '.';
      for (let byte = position + 1; byte <= position + length; byte++) name += letter(bytes[byte] as number);
      position += 1 + length;
    }
  }
}

function letter(byte: number): string {
  if (byte >= 0x41 && byte <= 0x5a) return String.fromCharCode(byte + 0x20);
  const plain =
    (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x5f;
  return plain ? String.fromCharCode(byte) : `\\${byte.toString().padStart(3, '0')}`;
}
