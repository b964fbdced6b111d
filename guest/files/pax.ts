/** Extended header records of POSIX tar: `length key=value\n`, length in decimal and counting itself. */
import type { Native } from '../../native/face.ts';
import { GuestError } from '../errors.ts';
import type { Attribute } from './attributes.ts';

/** The longest decimal length that a bounded header can have. */
const MAX_LENGTH_DIGITS = 6;
/** Extended attributes are records of this name, as every tar that knows them writes them. */
const ATTRIBUTE = 'SCHILY.xattr.';
/** Of one entry, as it is read. */
const MAX_ATTRIBUTES = 1024;

const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;

/** Values that are text, as every record but an attribute is. */
export type PaxRecords = Map<string, string>;

/** What of the addon is needed: names are bytes, and text in the program. */
export type Names = Pick<Native, 'decodeName' | 'encodeName'>;

/** Encodes records in order, then attributes. */
export function encodePax(
  names: Names,
  records: [key: string, value: string][],
  attributes: readonly Attribute[] = [],
): Uint8Array {
  const parts = [
    // POSIX's word for names that are no UTF-8: take them as they are.
    ...(records.some(([, value]) => hasRawBytes(value)) ? [['hdrcharset', 'BINARY'] as const] : []),
    ...records,
  ].map(([key, value]) => encodeRecord(names, key, names.encodeName(value)));
  for (const [name, value] of attributes) parts.push(encodeRecord(names, `${ATTRIBUTE}${name}`, value));
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.byteLength;
  }
  return result;
}

function encodeRecord(names: Names, key: string, value: Uint8Array): Uint8Array {
  const keyBytes = names.encodeName(` ${key}=`);
  const rest = keyBytes.byteLength + value.byteLength + 1;
  let length = rest + String(rest).length;
  // The digits count too: one more can make the number one digit longer.
  if (rest + String(length).length !== length) length = rest + String(length).length;
  const record = new Uint8Array(length);
  record.set(names.encodeName(String(length)));
  record.set(keyBytes, length - rest);
  record.set(value, length - 1 - value.byteLength);
  record[length - 1] = NEWLINE;
  return record;
}

/** Bytes that are no UTF-8, as native/face.ts has them: lone surrogates, which a `u` pattern alone tells from pairs. */
function hasRawBytes(text: string): boolean {
  return /[\udc80-\udcff]/u.test(text);
}

/**
 * Decodes records; a later one of the same key wins. Attributes are added to `attributes`. `offset`: where they are in the
 * archive, for errors. @throws {GuestError} bad-archive
 */
export function decodePax(
  names: Names,
  bytes: Uint8Array,
  offset: number,
  attributes: Attribute[] = [],
): PaxRecords {
  const records: PaxRecords = new Map();
  let at = 0;
  while (at < bytes.byteLength) {
    const space = bytes.indexOf(SPACE, at);
    const digits = space < 0 ? '' : names.decodeName(bytes.subarray(at, space));
    const length = /^[1-9]\d*$/.test(digits) && digits.length <= MAX_LENGTH_DIGITS ? Number(digits) : 0;
    const end = at + length;
    const equals = bytes.indexOf(EQUALS, space);
    if (length === 0 || end > bytes.byteLength || equals < 0 || equals >= end || bytes[end - 1] !== NEWLINE) {
      throw badArchive('damaged extended header', offset + at);
    }
    const key = names.decodeName(bytes.subarray(space + 1, equals));
    const value = bytes.subarray(equals + 1, end - 1);
    if (key.startsWith(ATTRIBUTE)) attributes.push([key.slice(ATTRIBUTE.length), value]);
    else records.set(key, names.decodeName(value));
    if (attributes.length > MAX_ATTRIBUTES) {
      throw badArchive(`an entry with more than ${MAX_ATTRIBUTES} extended attributes`, offset + at);
    }
    at = end;
  }
  return records;
}

/** An error that says where in the archive something is wrong. */
export function badArchive(what: string, offset: number): GuestError {
  return new GuestError('bad-archive', `${what} at offset ${offset} of the archive`);
}
