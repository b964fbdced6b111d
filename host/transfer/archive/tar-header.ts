/** Headers of tar archives, as bytes and as values. Writes POSIX pax; reads that, ustar, GNU's and the old format. */
import type { ArchiveEntry, EntryType } from './entry.ts';
import { damagedTar } from './errors.ts';
import { isText, type RawName } from './names.ts';
import { encodePax } from './pax.ts';

/** Everything in an archive is padded to this many bytes. */
export const BLOCK = 512;

/** Type flags of headers (POSIX 1003.1, "ustar Interchange Format", and GNU's long names). */
export const TypeFlag = {
  file: '0',
  hardLink: '1',
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
  /** GNU: a name for the whole archive. */
  volumeLabel: 'V',
} as const;

/** Extended attributes are pax records with this before their names (star, GNU tar, Docker). */
export const XATTR_KEY = 'SCHILY.xattr.';

/** A header block as it is read; sizes and names may yet be replaced by extended headers. */
export interface RawHeader {
  name: RawName;
  flag: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  mtime: number;
  target: RawName;
}

/** Fields of a header block: offset and length. */
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
  version: [263, 2],
  prefix: [345, 155],
} as const satisfies Record<string, readonly [number, number]>;
type Field = keyof typeof FIELD;

/** The prefix field is POSIX's; GNU's own format (magic `ustar ` and a space) has times and more there. */
const POSIX_MAGIC = 'ustar\0';
const SPACE = 0x20;

/** `size` rounded up to whole blocks. */
export function paddedSize(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

// ---------------------------------------------------------------- encoding

/** The block or blocks that stand before an entry's content. Of the types only those that archives of ours hold. */
export function encodeEntry(entry: ArchiveEntry): Buffer {
  const records: [string, RawName][] = [];
  const name = entry.type === 'directory' ? `${entry.name}/` : entry.name;
  const split = splitName(name);
  if (!split) records.push(['path', name]);
  const plainTarget = isPlain(entry.target, FIELD.target[1]);
  if (!plainTarget) records.push(['linkpath', entry.target]);
  const number = (field: Field, value: number): number => {
    if (value >= 0 && value <= largest(field)) return value;
    records.push([field, String(value)]);
    return 0;
  };
  const fields = {
    name: split?.name ?? clipped(name, FIELD.name[1]),
    prefix: split?.prefix ?? '',
    target: plainTarget ? entry.target : clipped(entry.target, FIELD.target[1]),
    mode: entry.mode & 0o7777,
    uid: number('uid', entry.uid),
    gid: number('gid', entry.gid),
    size: number('size', entry.size),
    mtime: number('mtime', entry.mtime),
    flag: TypeFlag[entry.type],
  };
  // POSIX's word for names that are no UTF-8: take them as they are.
  if (records.some(([, value]) => !isText(value))) records.unshift(['hdrcharset', 'BINARY']);
  for (const [key, value] of entry.attributes) records.push([XATTR_KEY + key, value]);
  const block = encodeBlock(fields);
  if (records.length === 0) return block;
  const extension = encodePax(records);
  const head = encodeBlock({
    ...{ name: 'PaxHeader', prefix: '', target: '', mode: 0o644, uid: 0, gid: 0, mtime: 0 },
    ...{ size: extension.byteLength, flag: TypeFlag.pax },
  });
  const padding = Buffer.alloc(paddedSize(extension.byteLength) - extension.byteLength);
  return Buffer.concat([head, extension, padding, block]);
}

function encodeBlock(fields: RawHeader & { prefix: string }): Buffer {
  const block = Buffer.alloc(BLOCK);
  const text = (field: Field, value: string) => block.write(value, FIELD[field][0], 'latin1');
  const octal = (field: Field, value: number) =>
    text(field, value.toString(8).padStart(FIELD[field][1] - 1, '0'));
  text('name', fields.name);
  octal('mode', fields.mode);
  octal('uid', fields.uid);
  octal('gid', fields.gid);
  octal('size', fields.size);
  octal('mtime', fields.mtime);
  text('flag', fields.flag);
  text('target', fields.target);
  text('magic', POSIX_MAGIC);
  text('version', '00');
  text('prefix', fields.prefix);
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
  if (text.length > size) return false;
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) > 0x7e) return false;
  return true;
}

/** Something readable for programs that know no extended headers. */
function clipped(text: RawName, size: number): string {
  return text.slice(0, size).replace(/[^ -~]/g, '_');
}

function largest(field: Field): number {
  return 8 ** (FIELD[field][1] - 1) - 1;
}

// ---------------------------------------------------------------- decoding

/** Entries that the flags of headers mean. */
export const TYPES: Readonly<Record<string, EntryType>> = {
  [TypeFlag.file]: 'file',
  [TypeFlag.contiguous]: 'file',
  [TypeFlag.hardLink]: 'hardLink',
  [TypeFlag.symlink]: 'symlink',
  [TypeFlag.character]: 'character',
  [TypeFlag.block]: 'block',
  [TypeFlag.directory]: 'directory',
  [TypeFlag.fifo]: 'fifo',
};

/** Reads a header block; null for a block of zeros, which ends an archive. @throws {YavmError} YAVM_E_ARCHIVE */
export function decodeHeader(block: Buffer, offset: number): RawHeader | null {
  const sum = checksum(block);
  if (sum === SPACE * FIELD.checksum[1] && isZero(block)) return null;
  const stored = decodeNumber(block, 'checksum', offset);
  // Some old programs summed signed bytes.
  if (stored !== sum && stored !== signedChecksum(block, sum)) {
    throw damagedTar(notTar(block) ?? 'header with a wrong checksum', offset);
  }
  const number = (field: Field) => decodeNumber(block, field, offset);
  const prefix = isPosix(block) ? cString(block, 'prefix') : '';
  const name = cString(block, 'name');
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    flag: String.fromCharCode(block[FIELD.flag[0]] || TypeFlag.file.charCodeAt(0)),
    mode: number('mode') & 0o7777,
    uid: number('uid'),
    gid: number('gid'),
    size: number('size'),
    mtime: number('mtime'),
    target: cString(block, 'target'),
  };
}

export function isZero(bytes: Uint8Array): boolean {
  for (let index = 0; index < bytes.byteLength; index++) if (bytes[index] !== 0) return false;
  return true;
}

/** Octal digits among spaces and NULs; or, with the top bit set, a big-endian number (GNU). */
function decodeNumber(block: Buffer, field: Field, offset: number): number {
  const [start, size] = FIELD[field];
  if (((block[start] as number) & 0x80) !== 0) return decodeBinary(block, field, offset);
  let value = 0;
  let ended = false;
  let digits = 0;
  for (let index = start; index < start + size; index++) {
    const byte = block[index] as number;
    if (byte === 0 || byte === SPACE) {
      ended = digits > 0;
    } else if (byte >= 0x30 && byte <= 0x37 && !ended) {
      value = value * 8 + (byte - 0x30);
      digits++;
    } else {
      throw damagedTar(notTar(block) ?? `damaged number in field '${field}'`, offset);
    }
  }
  return value;
}

function decodeBinary(block: Buffer, field: Field, offset: number): number {
  const [start, size] = FIELD[field];
  const negative = block[start] === 0xff;
  let value = negative ? 0 : (block[start] as number) & 0x7f;
  for (let index = start + 1; index < start + size; index++) {
    // Negative numbers are two's complement: the inverted bytes count up to −1 − value.
    const byte = block[index] as number;
    value = value * 256 + (negative ? 0xff - byte : byte);
  }
  if (!Number.isSafeInteger(value)) throw damagedTar(`number beyond 2^53 in field '${field}'`, offset);
  return negative ? -1 - value : value;
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

function cString(block: Buffer, field: Field): RawName {
  const [start, size] = FIELD[field];
  const end = block.indexOf(0, start);
  return block.toString('latin1', start, end < 0 || end > start + size ? start + size : end);
}

function isPosix(block: Buffer): boolean {
  const [start, size] = FIELD.magic;
  return block.toString('latin1', start, start + size) === POSIX_MAGIC;
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
  return found ? `${found[1]} where a tar is expected,` : null;
}
