/** Extended header records of POSIX tar: `length key=value\n`, length in decimal and counting itself. Values are bytes. */
import { damagedTar } from './errors.ts';
import type { RawName } from './names.ts';

/** The longest decimal length that a bounded header can have. */
const MAX_LENGTH_DIGITS = 7;

export type PaxRecords = Map<string, RawName>;

export function encodePax(records: readonly [key: string, value: RawName][]): Buffer {
  return Buffer.from(records.map(([key, value]) => encodeRecord(key, value)).join(''), 'latin1');
}

function encodeRecord(key: string, value: RawName): string {
  const rest = ` ${key}=${value}\n`.length;
  let length = rest + String(rest).length;
  // The digits count too: one more can make the number one digit longer.
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

/**
 * Decodes records; a later one of the same key wins. `offset`: where they are in the archive, for errors.
 * @throws {YavmError} YAVM_E_ARCHIVE
 */
export function decodePax(bytes: Buffer, offset: number): PaxRecords {
  const text = bytes.toString('latin1');
  const records: PaxRecords = new Map();
  let at = 0;
  while (at < text.length) {
    const space = text.indexOf(' ', at);
    const digits = space < 0 ? '' : text.slice(at, space);
    const length = digits.length <= MAX_LENGTH_DIGITS && /^[1-9]\d*$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = text.indexOf('=', space);
    if (length === 0 || end > text.length || equals < 0 || equals >= end || text[end - 1] !== '\n') {
      throw damagedTar('damaged extended header', offset + at);
    }
    records.set(text.slice(space + 1, equals), text.slice(equals + 1, end - 1));
    at = end;
  }
  return records;
}
