/** Extended header records of POSIX tar: `length key=value\n`, length in decimal and counting itself. */
import { GuestError } from '../errors.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** The longest decimal length that a bounded header can have. */
const MAX_LENGTH_DIGITS = 6;

const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;

export type PaxRecords = Map<string, string>;

/** Encodes records, in order. */
export function encodePax(records: [key: string, value: string][]): Uint8Array {
  return encoder.encode(records.map(([key, value]) => encodeRecord(key, value)).join(''));
}

function encodeRecord(key: string, value: string): string {
  const rest = encoder.encode(` ${key}=${value}\n`).byteLength;
  let length = rest + String(rest).length;
  // The digits count too: one more can make the number one digit longer.
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

/**
 * Decodes records; a later one of the same key wins. `offset`: where they are in the archive, for errors.
 * @throws {GuestError} bad-archive
 */
export function decodePax(bytes: Uint8Array, offset: number): PaxRecords {
  const records: PaxRecords = new Map();
  let at = 0;
  while (at < bytes.byteLength) {
    const space = bytes.indexOf(SPACE, at);
    const digits = space < 0 ? '' : decodeText(bytes.subarray(at, space), offset + at);
    const length = /^[1-9]\d*$/.test(digits) && digits.length <= MAX_LENGTH_DIGITS ? Number(digits) : 0;
    const end = at + length;
    const equals = bytes.indexOf(EQUALS, space);
    if (length === 0 || end > bytes.byteLength || equals < 0 || equals >= end || bytes[end - 1] !== NEWLINE) {
      throw badArchive('damaged extended header', offset + at);
    }
    const key = decodeText(bytes.subarray(space + 1, equals), offset + at);
    records.set(key, decodeText(bytes.subarray(equals + 1, end - 1), offset + at));
    at = end;
  }
  return records;
}

/** UTF-8 to text; names in any other encoding are refused, since they could not be written back as they were. */
export function decodeText(bytes: Uint8Array, offset: number): string {
  if (bytes.byteLength === 0) return '';
  const text = decoder.decode(bytes);
  // A replacement character that is not in the input itself means that the input is no UTF-8.
  if (text.includes('\ufffd') && !hasReplacementCharacter(bytes)) {
    throw badArchive('a name that is not UTF-8', offset);
  }
  return text;
}

function hasReplacementCharacter(bytes: Uint8Array): boolean {
  for (let i = bytes.indexOf(0xef); i >= 0; i = bytes.indexOf(0xef, i + 1)) {
    if (bytes[i + 1] === 0xbf && bytes[i + 2] === 0xbd) return true;
  }
  return false;
}

/** An error that says where in the archive something is wrong. */
export function badArchive(what: string, offset: number): GuestError {
  return new GuestError('bad-archive', `${what} at offset ${offset} of the archive`);
}
