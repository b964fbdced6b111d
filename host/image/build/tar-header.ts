/**
 * One 512-byte header of a tar: ustar (POSIX.1), GNU and V7. Names are bytes, kept as latin1 text: a character a byte.
 *
 * Why not a library: tar-stream, as others, decodes names and attributes as UTF-8, which loses a name that is none and
 * breaks binary attributes (security.capability), and it reads a stream where a layer is to be read at any place.
 */
import { ImageArchiveError } from '../errors.ts';

export const BLOCK = 512;

/** Fields of the header: offset and length. */
const NAME = [0, 100] as const;
const MODE = [100, 8] as const;
const UID = [108, 8] as const;
const GID = [116, 8] as const;
const SIZE = [124, 12] as const;
const MTIME = [136, 12] as const;
const CHECKSUM = [148, 8] as const;
const TYPE = 156;
const LINK = [157, 100] as const;
const MAGIC = [257, 8] as const;
const MAJOR = [329, 8] as const;
const MINOR = [337, 8] as const;
const PREFIX = [345, 155] as const;
type Field = readonly [at: number, length: number];

export interface Header {
  /** The type as its character; NUL is read as `0`. */
  type: string;
  name: string;
  linkName: string;
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of content that follow in the archive. */
  size: number;
  /** Seconds since the epoch. */
  mtime: number;
  major: number;
  minor: number;
}

/** Whether a block is the archive's end mark. */
export function isZero(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

/** @throws {ImageArchiveError} the block is no header, or holds a number that cannot be. */
export function parseHeader(block: Buffer): Header {
  checkSum(block);
  const magic = text(block, MAGIC);
  const prefix = magic.startsWith('ustar') && !magic.startsWith('ustar ') ? text(block, PREFIX) : '';
  const name = text(block, NAME);
  const number = (what: string, field: Field) => parseNumber(block, what, field);
  const type = block[TYPE] === 0 ? '0' : String.fromCharCode(block[TYPE] as number);
  const device = type === '3' || type === '4';
  return {
    // In V7's archives a directory is told by its slash.
    type: type === '0' && name.endsWith('/') ? '5' : type,
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: text(block, LINK),
    mode: number('mode', MODE) & 0o7777,
    uid: number('uid', UID),
    gid: number('gid', GID),
    size: number('size', SIZE),
    mtime: number('time', MTIME),
    // Of other types some writers leave them blank, or worse.
    major: device ? number('device', MAJOR) : 0,
    minor: device ? number('device', MINOR) : 0,
  };
}

/** Sum of the bytes, its own field counted as spaces; old writers took the bytes as signed. */
function checkSum(block: Buffer): void {
  const expected = parseNumber(block, 'checksum', CHECKSUM);
  let sum = 0;
  let signed = 0;
  for (let at = 0; at < BLOCK; at++) {
    const own = at >= CHECKSUM[0] && at < CHECKSUM[0] + CHECKSUM[1];
    const byte = own ? 0x20 : (block[at] as number);
    sum += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  if (expected !== sum && expected !== signed) throw new ImageArchiveError('a header has a wrong checksum');
}

/** Up to the first NUL. */
function text(block: Buffer, [at, length]: Field): string {
  const end = block.indexOf(0, at);
  return block.toString('latin1', at, end < 0 ? at + length : Math.min(end, at + length));
}

/** Octal digits, or (first bit set) GNU's binary form. Blank is 0. */
export function parseNumber(block: Buffer, what: string, [at, length]: Field): number {
  const first = block[at] as number;
  if (first >= 0x80) return binary(block, what, [at, length]);
  const digits = text(block, [at, length]).trim();
  if (digits === '') return 0;
  const value = /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new ImageArchiveError(`a header's ${what} is no number: ${JSON.stringify(digits)}`);
}

/** Two's complement, big-endian, without the highest bit. */
function binary(block: Buffer, what: string, [at, length]: Field): number {
  const negative = ((block[at] as number) & 0x40) !== 0;
  let value = BigInt((block[at] as number) & 0x7f);
  for (let index = 1; index < length; index++) value = (value << 8n) | BigInt(block[at + index] as number);
  if (negative) value -= 1n << BigInt(length * 8 - 1);
  const number = Number(value);
  if (Number.isSafeInteger(number) && (number >= 0 || what === 'time')) return number;
  throw new ImageArchiveError(`a header's ${what} is out of range: ${value}`);
}
