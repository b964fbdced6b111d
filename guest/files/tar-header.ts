/** Headers of tar archives, as bytes and as values. Writes POSIX pax; reads that, ustar, GNU's and the old format. */
import type { Native } from '../../native/face.ts';
import type { Attribute } from './attributes.ts';
import { badArchive, encodePax, type Names } from './pax.ts';

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

export type EntryType = 'file' | 'hardLink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

export interface Entry {
  /** Path as in the archive; of a directory with or without a slash at its end. */
  name: string;
  type: EntryType;
  /** Permission bits, set-id and sticky included. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of content; 0 for all but files. */
  size: number;
  /** Seconds since the epoch. */
  mtime: number;
  /** Target of a link, else empty. */
  linkName: string;
  major: number;
  minor: number;
  /** Extended attributes; of files and directories only. */
  attributes: readonly Attribute[];
}

/** A header block as it is read; sizes and names may yet be replaced by extended headers. */
export interface RawHeader extends Omit<Entry, 'type' | 'attributes'> {
  flag: string;
}

/** Fields of a header block: offset and length. native/addon/tar_header.cc reads them. */
const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  flag: [156, 1],
  linkName: [157, 100],
  magic: [257, 6],
  version: [263, 2],
  major: [329, 8],
  minor: [337, 8],
  prefix: [345, 155],
} as const satisfies Record<string, readonly [number, number]>;
type Field = keyof typeof FIELD;

const POSIX_MAGIC = 'ustar\0';
const SPACE = 0x20;

// ---------------------------------------------------------------- encoding

/** The block or blocks that stand before an entry's content. */
export function encodeEntry(names: Names, entry: Entry): Uint8Array {
  const records: [string, string][] = [];
  const name = entry.type === 'directory' && !entry.name.endsWith('/') ? `${entry.name}/` : entry.name;
  const split = splitName(name);
  if (!split) records.push(['path', name]);
  const link = isPlain(entry.linkName, FIELD.linkName[1]);
  if (!link) records.push(['linkpath', entry.linkName]);
  const number = (field: Field, key: string, value: number): number => {
    if (value >= 0 && value <= largest(field)) return value;
    records.push([key, String(value)]);
    return 0;
  };
  const fields: HeaderFields = {
    flag: TypeFlag[entry.type],
    name: split?.name ?? clipped(name, FIELD.name[1]),
    prefix: split?.prefix ?? '',
    linkName: link ? entry.linkName : clipped(entry.linkName, FIELD.linkName[1]),
    mode: entry.mode & 0o7777,
    uid: number('uid', 'uid', entry.uid),
    gid: number('gid', 'gid', entry.gid),
    size: number('size', 'size', entry.size),
    // Whole seconds: a fraction would cost every file an extended header of 1 KiB.
    mtime: number('mtime', 'mtime', Math.floor(entry.mtime)),
    major: entry.major,
    minor: entry.minor,
  };
  if (records.length === 0 && entry.attributes.length === 0) return encodeBlock(fields);
  const extension = encodePax(names, records, entry.attributes);
  const padded = paddedSize(extension.byteLength);
  const result = new Uint8Array(BLOCK + padded + BLOCK);
  const head = {
    ...fields,
    flag: TypeFlag.pax,
    name: 'PaxHeader',
    prefix: '',
    linkName: '',
    size: extension.byteLength,
  };
  result.set(encodeBlock({ ...head, mode: 0o644, uid: 0, gid: 0, mtime: 0, major: 0, minor: 0 }));
  result.set(extension, BLOCK);
  result.set(encodeBlock(fields), BLOCK + padded);
  return result;
}

/** `size` rounded up to whole blocks. */
export function paddedSize(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

interface HeaderFields extends Omit<Entry, 'type' | 'attributes'> {
  flag: string;
  prefix: string;
}

/** Every field is ASCII by now. The sum is made on the way: a loop over the whole block would take longer than all else. */
function encodeBlock(fields: HeaderFields): Uint8Array {
  const block = new Uint8Array(BLOCK);
  let sum = SPACE * FIELD.checksum[1];
  const text = (field: Field, value: string) => {
    const [start] = FIELD[field];
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      block[start + i] = code;
      sum += code;
    }
  };
  const octal = (field: Field, value: number) =>
    text(field, value.toString(8).padStart(FIELD[field][1] - 1, '0'));
  text('name', fields.name);
  octal('mode', fields.mode);
  octal('uid', fields.uid);
  octal('gid', fields.gid);
  octal('size', fields.size);
  octal('mtime', fields.mtime);
  text('flag', fields.flag);
  text('linkName', fields.linkName);
  text('magic', POSIX_MAGIC);
  text('version', '00');
  octal('major', fields.major);
  octal('minor', fields.minor);
  text('prefix', fields.prefix);
  text('checksum', `${sum.toString(8).padStart(6, '0')}\0 `);
  return block;
}

/** Name and prefix that together make `name`, when it is ASCII and fits; null when it needs an extended header. */
function splitName(name: string): { name: string; prefix: string } | null {
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
function isPlain(text: string, size: number): boolean {
  if (text.length > size) return false;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7e) return false;
  return true;
}

/** Something readable for programs that know no extended headers. */
function clipped(text: string, size: number): string {
  let result = '';
  for (let i = 0; i < text.length && i < size; i++) result += text.charCodeAt(i) > 0x7e ? '_' : text[i];
  return result;
}

function largest(field: Field): number {
  return 8 ** (FIELD[field][1] - 1) - 1;
}

// ---------------------------------------------------------------- decoding

/**
 * Reads the header block at `at` in `bytes`, which is at `offset` of its archive; null for a block of zeros, which ends one.
 * @throws {GuestError} bad-archive
 */
export function decodeHeader(
  native: Pick<Native, 'tarHeader'>,
  bytes: Uint8Array,
  at: number,
  offset: number,
): RawHeader | null {
  const header = native.tarHeader(bytes, at);
  if (header === null) return null;
  if (typeof header === 'string') throw badArchive(notTar(bytes.subarray(at)) ?? header, offset);
  const [flag, name, linkName, mode, uid, gid, size, mtime, major, minor] = header;
  return {
    flag: String.fromCharCode(flag),
    name,
    linkName,
    mode: mode & 0o7777,
    uid,
    gid,
    size,
    mtime,
    major,
    minor,
  };
}

/** Names the formats that people send by mistake. */
function notTar(block: Uint8Array): string | null {
  const starts = (...bytes: number[]) => bytes.every((byte, i) => block[i] === byte);
  if (starts(0x1f, 0x8b)) return 'gzip data, not an uncompressed tar archive,';
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return 'zstd data, not an uncompressed tar archive,';
  if (starts(0xfd, 0x37, 0x7a, 0x58)) return 'xz data, not an uncompressed tar archive,';
  if (starts(0x50, 0x4b, 0x03, 0x04)) return 'a zip archive, not a tar archive,';
  return null;
}
