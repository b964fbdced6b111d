/** Extended header records of POSIX tar: `length key=value\n`, length in decimal and counting itself. Values are bytes. */
import type { RawName } from '../raw-name.ts';
import { TarError } from './error.ts';

export type PaxRecord = readonly [key: string, value: RawName];

/** Extended attributes are records with this before their names (star, GNU tar, Docker). */
export const XATTR_KEY = 'SCHILY.xattr.';

/** Records of one header at most; the kernel takes far fewer attributes of a file. */
const MAX_RECORDS = 65_536;
const MAX_LENGTH_DIGITS = 10;

const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;

export function encodePax(records: readonly PaxRecord[]): Buffer {
  return Buffer.from(records.map(encodeRecord).join(''), 'latin1');
}

function encodeRecord([key, value]: PaxRecord): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + String(rest.length).length;
  // The digits count too: one more can make the number one digit longer.
  if (rest.length + String(length).length !== length) length = rest.length + String(length).length;
  return `${length}${rest}`;
}

/**
 * All records, in their order: GNU's first sparse form repeats its keys, of all others the last one counts. Nothing of
 * them keeps `bytes`. `offset`: where those are in the archive, for errors. @throws {TarError}
 */
export function decodePax(bytes: Buffer, offset: number): PaxRecord[] {
  const records: PaxRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    // Some writers fill the block with zeros that they count.
    if (bytes[at] === 0 && bytes.subarray(at).every((byte) => byte === 0)) break;
    if (records.length >= MAX_RECORDS)
      throw new TarError(`an extended header with more than ${MAX_RECORDS} records`, offset + at);
    const space = bytes.indexOf(SPACE, at);
    const digits = space < 0 || space - at > MAX_LENGTH_DIGITS ? '' : bytes.toString('latin1', at, space);
    const end = /^\d+$/.test(digits) ? at + Number(digits) : 0;
    const equals = bytes.indexOf(EQUALS, space);
    if (end <= space || end > bytes.length || bytes[end - 1] !== NEWLINE || equals < 0 || equals >= end)
      throw new TarError('damaged extended header', offset + at);
    records.push([
      bytes.toString('latin1', space + 1, equals),
      bytes.toString('latin1', equals + 1, end - 1),
    ]);
    at = end;
  }
  return records;
}

/** A record's decimal number, which may be negative and have a fraction. @throws {TarError} */
export function paxNumber([key, value]: PaxRecord, offset: number): number {
  const number = /^-?\d{1,16}(\.\d{0,32})?$/.test(value) ? Number(value) : Number.NaN;
  if (Math.abs(number) <= Number.MAX_SAFE_INTEGER) return number;
  throw new TarError(`'${key}' is no number that can be held`, offset);
}

/** `value`, when it is whole and from 0 to `most`. @throws {TarError} */
export function wholeNumber(value: number, most: number, what: string, offset: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw new TarError(`${what} ${value} is out of range`, offset);
}
