/**
 * Headers of tar archives, as bytes and as values. Writes POSIX pax; reads that, ustar, GNU's and the old format. Names
 * and values are bytes, kept as text of one character a byte.
 *
 * Why no library: tar-stream, as others, decodes names and the values of extended headers as UTF-8, which loses a name
 * that is none and damages binary attributes (security.capability); it takes an archive that was cut off between two
 * entries for a whole one; and it knows streams only, where a layer of an image is read at any place.
 */
import { isAscii, type RawName } from '../raw-name.ts';
import { TarError } from './error.ts';
import { encodePax, type PaxRecord } from './pax.ts';

/** Everything in an archive is padded to this many bytes. */
export const BLOCK = 512;

/** Type flags of headers (POSIX 1003.1, "ustar Interchange Format", and GNU's). */
export const TypeFlag = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
  contiguous: '7',
  /** Extended header for the next entry; for all that follow. */
  pax: 'x',
  globalPax: 'g',
  /** GNU: the next entry's name; its link's target. */
  longName: 'L',
  longLink: 'K',
  /** GNU: a file with holes, in the form that needs no extended header. */
  sparse: 'S',
  /** GNU: a name for the whole archive. */
  volumeLabel: 'V',
} as const;

export type EntryType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

/** Entries that the flags of headers mean. */
export const ENTRY_TYPES: Readonly<Record<string, EntryType>> = {
  [TypeFlag.file]: 'file',
  [TypeFlag.contiguous]: 'file',
  [TypeFlag.hardlink]: 'hardlink',
  [TypeFlag.symlink]: 'symlink',
  [TypeFlag.character]: 'character',
  [TypeFlag.block]: 'block',
  [TypeFlag.directory]: 'directory',
  [TypeFlag.fifo]: 'fifo',
};

/** A header's values; extended headers may replace them. */
export interface TarHeader {
  name: RawName;
  /** See {@link TypeFlag}. The old format has none for directories, only a slash at the name's end. */
  flag: string;
  /** Permission bits, set-id and sticky included. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of content that follow in the archive; of links, in some, what nothing follows for. */
  size: number;
  /** Seconds since the epoch. */
  mtime: number;
  /** Where a link leads, else empty. */
  target: RawName;
  /** Of devices, else 0. */
  major: number;
  minor: number;
}

/** Offset and length. */
export type Place = readonly [at: number, size: number];

const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  flag: [156, 1],
  target: [157, 100],
  magic: [257, 6],
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
} as const satisfies Record<string, Place>;
type Field = keyof typeof FIELD;

/** Largest uid or gid: 2³²−1 means "no change" to the kernel. */
export const MAX_ID = 0xfffffffe;

/** With the version behind it. */
const POSIX_MAGIC = 'ustar\x0000';
const SPACE = 0x20;

/** `size` rounded up to whole blocks. */
export function paddedSize(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

/** The bytes with zeros up to a whole block. */
export function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes], paddedSize(bytes.length));
}

function isDevice(flag: string): boolean {
  return flag === TypeFlag.character || flag === TypeFlag.block;
}

// ---------------------------------------------------------------- encoding

/**
 * The block or blocks that stand before an entry's content. What a header has no room for is in an extended one, behind
 * `first`. Devices' numbers have at most 7 octal digits.
 */
export function encodeEntry(header: TarHeader, first: readonly PaxRecord[] = []): Buffer {
  const records = [...first];
  const split = splitName(header.name);
  if (!split) records.push(['path', header.name]);
  const plainTarget = isPlain(header.target, FIELD.target[1]);
  if (!plainTarget) records.push(['linkpath', header.target]);
  const number = (field: 'uid' | 'gid' | 'size' | 'mtime'): number => {
    const value = header[field];
    if (value >= 0 && value <= largest(field)) return value;
    records.push([field, String(value)]);
    return 0;
  };
  const block = encodeBlock({
    name: split?.name ?? clipped(header.name, FIELD.name[1]),
    prefix: split?.prefix ?? '',
    target: plainTarget ? header.target : clipped(header.target, FIELD.target[1]),
    flag: header.flag,
    mode: header.mode & 0o7777,
    uid: number('uid'),
    gid: number('gid'),
    size: number('size'),
    mtime: number('mtime'),
    major: header.major,
    minor: header.minor,
  });
  if (records.length === 0) return block;
  const extension = encodePax(records);
  const head = encodeBlock({
    ...{ name: 'PaxHeader', prefix: '', target: '', flag: TypeFlag.pax, size: extension.length },
    ...{ mode: 0o644, uid: 0, gid: 0, mtime: 0, major: 0, minor: 0 },
  });
  return Buffer.concat([head, padded(extension), block]);
}

function encodeBlock(header: TarHeader & { prefix: string }): Buffer {
  const block = Buffer.alloc(BLOCK);
  const text = (field: Field, value: string) => block.write(value, FIELD[field][0], 'latin1');
  const octal = (field: Field, value: number) =>
    text(field, value.toString(8).padStart(FIELD[field][1] - 1, '0'));
  text('name', header.name);
  octal('mode', header.mode);
  octal('uid', header.uid);
  octal('gid', header.gid);
  octal('size', header.size);
  octal('mtime', header.mtime);
  text('flag', header.flag);
  if (header.target !== '') text('target', header.target);
  text('magic', POSIX_MAGIC);
  if (isDevice(header.flag)) {
    octal('major', header.major);
    octal('minor', header.minor);
  }
  if (header.prefix !== '') text('prefix', header.prefix);
  text('checksum', `${checksum(block).toString(8).padStart(6, '0')}\0 `);
  return block;
}

/** Name and prefix that together make `name`, when it is ASCII and fits; null when it needs an extended header. */
function splitName(name: RawName): { name: string; prefix: string } | null {
  const [, nameSize] = FIELD.name;
  const [, prefixSize] = FIELD.prefix;
  if (isPlain(name, nameSize)) return { name, prefix: '' };
  if (!isPlain(name, nameSize + 1 + prefixSize)) return null;
  // The slash between the two is not stored; the name part must not be empty.
  const slash = name.lastIndexOf('/', Math.min(prefixSize, name.length - 2));
  if (slash <= 0 || name.length - slash - 1 > nameSize) return null;
  return { prefix: name.slice(0, slash), name: name.slice(slash + 1) };
}

/** Whether a field of `size` bytes holds `text`, which POSIX wants to be ASCII. */
function isPlain(text: RawName, size: number): boolean {
  return text.length <= size && isAscii(text);
}

/** Something readable for programs that know no extended headers. */
function clipped(text: RawName, size: number): string {
  return text.slice(0, size).replace(/[^ -~]/g, '_');
}

function largest(field: Field): number {
  return 8 ** (FIELD[field][1] - 1) - 1;
}

// ---------------------------------------------------------------- decoding

/**
 * Reads a header block; null for a block of zeros, which ends an archive. `offset`: where it is in that, for errors.
 * @throws {TarError}
 */
export function decodeHeader(block: Buffer, offset: number): TarHeader | null {
  const sum = checksum(block);
  if (sum === SPACE * FIELD.checksum[1] && isZero(block)) return null;
  const number = (field: Field) => decodeNumber(block, field, FIELD[field], offset);
  const stored = number('checksum');
  // Some old programs summed signed bytes.
  if (stored !== sum && stored !== signedChecksum(block, sum))
    throw new TarError(notTar(block) ?? 'header with a wrong checksum', offset);
  const prefix = isPosix(block) ? cString(block, 'prefix') : '';
  const name = cString(block, 'name');
  const flag = String.fromCharCode(block[FIELD.flag[0]] || TypeFlag.file.charCodeAt(0));
  const device = isDevice(flag);
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    flag,
    mode: number('mode') & 0o7777,
    uid: number('uid'),
    gid: number('gid'),
    size: number('size'),
    mtime: number('mtime'),
    target: cString(block, 'target'),
    // Of other types some writers leave them blank, or worse.
    major: device ? number('major') : 0,
    minor: device ? number('minor') : 0,
  };
}

export function isZero(bytes: Uint8Array): boolean {
  for (let index = 0; index < bytes.length; index++) if (bytes[index] !== 0) return false;
  return true;
}

/**
 * Octal digits behind spaces and NULs, and up to one; or, with the top bit set, a big-endian number (GNU). Only times may
 * be negative. `what`: the field's name, for errors. @throws {TarError}
 */
export function decodeNumber(block: Buffer, what: string, [at, size]: Place, offset: number): number {
  if ((block[at] as number) >= 0x80) return decodeBinary(block, what, [at, size], offset);
  const end = at + size;
  let index = at;
  while (index < end && (block[index] === SPACE || block[index] === 0)) index++;
  let value = 0;
  for (; index < end; index++) {
    const digit = (block[index] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  while (index < end && block[index] === SPACE) index++;
  // What stands behind a NUL does not count.
  if (index === end || block[index] === 0) return value;
  throw new TarError(notTar(block) ?? `damaged number in field '${what}'`, offset);
}

/** Two's complement, without the highest bit. */
function decodeBinary(block: Buffer, what: string, [at, size]: Place, offset: number): number {
  const negative = block[at] === 0xff;
  let value = negative ? 0 : (block[at] as number) & 0x7f;
  for (let index = at + 1; index < at + size; index++) {
    // Inverted bytes count up to −1 − value.
    const byte = block[index] as number;
    value = value * 256 + (negative ? 0xff - byte : byte);
  }
  if (!Number.isSafeInteger(value)) throw new TarError(`number beyond 2^53 in field '${what}'`, offset);
  if (!negative) return value;
  if (what === 'mtime') return -1 - value;
  throw new TarError(`${what} ${-1 - value} is out of range`, offset);
}

/** Sum of the block's bytes, the checksum itself counted as spaces. */
function checksum(block: Uint8Array): number {
  const [start, size] = FIELD.checksum;
  let sum = SPACE * size;
  for (let index = 0; index < start; index++) sum += block[index] as number;
  for (let index = start + size; index < BLOCK; index++) sum += block[index] as number;
  return sum;
}

/** As signed bytes, each of the upper half counts 256 less. */
function signedChecksum(block: Uint8Array, sum: number): number {
  const [start, size] = FIELD.checksum;
  let result = sum;
  for (let index = 0; index < BLOCK; index++) {
    const counted = index < start || index >= start + size;
    if (counted && (block[index] as number) > 127) result -= 256;
  }
  return result;
}

/** Up to the first NUL. */
function cString(block: Buffer, field: Field): RawName {
  const [start, size] = FIELD[field];
  const end = block.indexOf(0, start);
  return block.toString('latin1', start, end < 0 || end > start + size ? start + size : end);
}

/** The prefix field is POSIX's; GNU's own format (magic `ustar` and a space) has times and more there. */
function isPosix(block: Buffer): boolean {
  const [start, size] = FIELD.magic;
  return block.toString('latin1', start, start + size - 1) === 'ustar' && block[start + size - 1] !== SPACE;
}

const MAGICS: readonly [bytes: readonly number[], what: string][] = [
  [[0x1f, 0x8b], 'gzip data'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'zstd data'],
  [[0xfd, 0x37, 0x7a, 0x58], 'xz data'],
  [[0x42, 0x5a, 0x68], 'bzip2 data'],
  [[0x50, 0x4b, 0x03, 0x04], 'a zip'],
];

/** Names the formats that people send by mistake. */
function notTar(block: Uint8Array): string | null {
  const found = MAGICS.find(([bytes]) => bytes.every((byte, index) => block[index] === byte));
  return found ? `${found[1]} instead of a header` : null;
}
