/** Extended headers of a tar (POSIX.1 pax): records `LENGTH KEY=VALUE\n` before the entry that they are about. */
import { ImageArchiveError } from '../errors.ts';

export interface PaxRecord {
  key: string;
  /** Bytes of the archive: valid as long as those are. */
  value: Buffer;
}

/** Records of one header at most; the kernel takes far fewer attributes of a file. */
const MAX_RECORDS = 65_536;

/** In order: GNU's first sparse form repeats its keys. @throws {ImageArchiveError} */
export function parsePax(bytes: Buffer): PaxRecord[] {
  const records: PaxRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    // Some writers fill the block with zeros that they count.
    if (bytes[at] === 0) break;
    const digits = space < 0 || space - at > 10 ? '' : bytes.toString('latin1', at, space);
    const end = /^\d+$/.test(digits) ? at + Number(digits) : 0;
    const equals = bytes.indexOf(0x3d, space);
    if (end <= space || end > bytes.length || bytes[end - 1] !== 0x0a || equals < 0 || equals >= end) {
      throw new ImageArchiveError(`a pax header is damaged at its byte ${at}`);
    }
    if (records.length >= MAX_RECORDS)
      throw new ImageArchiveError(`a pax header has more than ${MAX_RECORDS} records`);
    records.push({
      key: bytes.toString('latin1', space + 1, equals),
      value: bytes.subarray(equals + 1, end - 1),
    });
    at = end;
  }
  return records;
}

/** One record; its length counts its own digits. */
export function encodePax(key: string, value: Uint8Array): Buffer {
  const rest = Buffer.byteLength(key, 'latin1') + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length > String(rest).length) length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${key}=`, 'latin1'), value, Buffer.from('\n')]);
}

/** A decimal number, also with a fraction, which is cut off. @throws {ImageArchiveError} */
export function paxNumber({ key, value }: PaxRecord, least = 0): number {
  const digits = value.toString('latin1');
  const number = /^-?\d+(\.\d*)?$/.test(digits) ? Math.floor(Number(digits)) : Number.NaN;
  if (Number.isSafeInteger(number) && number >= least) return number;
  throw new ImageArchiveError(`the pax header's ${key} is no number: ${JSON.stringify(digits.slice(0, 64))}`);
}
