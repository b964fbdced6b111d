/** Records of zip files as they are written (PKWARE's APPNOTE 6.3; extra fields as Info-ZIP has them). */

import { nameBytes } from '../../lib/raw-name.ts';
import type { ArchiveEntry } from './entry.ts';

const LOCAL_HEADER = 0x04034b50;
const DATA_DESCRIPTOR = 0x08074b50;
const CENTRAL_HEADER = 0x02014b50;
const END = 0x06054b50;
const ZIP64_END = 0x06064b50;
const ZIP64_LOCATOR = 0x07064b50;

/** Extra fields: 64-bit sizes; times (UT); owner (ux). */
export const Extra = { zip64: 0x0001, times: 0x5455, owner: 0x7875 } as const;

/** File types in a mode (sys/stat.h), as Unix puts them into zip. */
export const FileType = {
  mask: 0o170000,
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
} as const;

export const Method = { stored: 0, deflated: 8 } as const;
export type Method = (typeof Method)[keyof typeof Method];

const Flag = { descriptor: 1 << 3, utf8: 1 << 11 } as const;
const VERSION = 20;
const VERSION_ZIP64 = 45;
/** Unix, and the version of the format. */
const MADE_BY = (3 << 8) | 63;
/** MS-DOS's bit for directories, which readers without Unix modes look at. */
const DOS_DIRECTORY = 0x10;

const MAX_16 = 0xffff;
const MAX_32 = 0xffffffff;
const MAX_INT_32 = 0x7fffffff;

/** A file in a zip. */
export interface ZipMember {
  entry: ArchiveEntry;
  method: Method;
  crc: number;
  packed: number;
  size: number;
  /** Whether sizes and checksum stand behind the content: they were not known before. */
  descriptor: boolean;
  /** Whether sizes have 64 bits in front of, or behind, the content. */
  zip64: boolean;
  /** Where its local header is. */
  offset: number;
}

/** Whether a file of `size` bytes needs 64-bit sizes; what cannot be made smaller grows a little. */
export function needsZip64(size: number): boolean {
  return size > MAX_32 - 16 * 1024 * 1024;
}

export function localHeader(member: ZipMember): Buffer {
  const { entry, method, descriptor, zip64 } = member;
  const name = nameBytes(zipName(entry));
  const known = descriptor ? { crc: 0, packed: 0, size: 0 } : member;
  const extra = Buffer.concat([
    zip64 ? extraField(Extra.zip64, [u64(known.size), u64(known.packed)]) : Buffer.alloc(0),
    timesField(entry),
    ownerField(entry),
  ]);
  const { time, date } = dosTime(entry.mtime);
  return Buffer.concat([
    ...[u32(LOCAL_HEADER), u16(zip64 ? VERSION_ZIP64 : VERSION), u16(flags(descriptor)), u16(method)],
    ...[u16(time), u16(date), u32(known.crc), u32(zip64 ? MAX_32 : known.packed)],
    ...[u32(zip64 ? MAX_32 : known.size), u16(name.byteLength), u16(extra.byteLength), name, extra],
  ]);
}

export function dataDescriptor({ crc, packed, size, zip64 }: ZipMember): Buffer {
  const number = zip64 ? u64 : u32;
  return Buffer.concat([u32(DATA_DESCRIPTOR), u32(crc), number(packed), number(size)]);
}

export function centralHeader(member: ZipMember): Buffer {
  const { entry, method, crc, packed, size, descriptor, offset } = member;
  const name = nameBytes(zipName(entry));
  const large = member.zip64 || offset >= MAX_32;
  const extra = Buffer.concat([
    large ? extraField(Extra.zip64, [u64(size), u64(packed), u64(offset)]) : Buffer.alloc(0),
    timesField(entry),
    ownerField(entry),
  ]);
  const { time, date } = dosTime(entry.mtime);
  const directory = entry.type === 'directory';
  const attributes = (unixMode(entry) * 2 ** 16 + (directory ? DOS_DIRECTORY : 0)) >>> 0;
  return Buffer.concat([
    ...[u32(CENTRAL_HEADER), u16(MADE_BY), u16(large ? VERSION_ZIP64 : VERSION), u16(flags(descriptor))],
    ...[
      u16(method),
      u16(time),
      u16(date),
      u32(crc),
      u32(large ? MAX_32 : packed),
      u32(large ? MAX_32 : size),
    ],
    ...[u16(name.byteLength), u16(extra.byteLength), u16(0), u16(0), u16(0), u32(attributes)],
    ...[u32(large ? MAX_32 : offset), name, extra],
  ]);
}

/** What ends a zip: of `entries` in a directory of `size` bytes at `offset`. */
export function endRecords(entries: number, size: number, offset: number): Buffer {
  const large = entries >= MAX_16 || size >= MAX_32 || offset >= MAX_32;
  const end = Buffer.concat([
    ...[u32(END), u16(0), u16(0), u16(large ? MAX_16 : entries), u16(large ? MAX_16 : entries)],
    ...[u32(large ? MAX_32 : size), u32(large ? MAX_32 : offset), u16(0)],
  ]);
  if (!large) return end;
  const content = Buffer.concat([
    ...[u16(MADE_BY), u16(VERSION_ZIP64), u32(0), u32(0), u64(entries), u64(entries), u64(size), u64(offset)],
  ]);
  const record = Buffer.concat([u32(ZIP64_END), u64(content.byteLength), content]);
  const locator = Buffer.concat([u32(ZIP64_LOCATOR), u32(0), u64(offset + size), u32(1)]);
  return Buffer.concat([record, locator, end]);
}

function zipName({ name, type }: ArchiveEntry): string {
  return type === 'directory' ? `${name}/` : name;
}

function unixMode({ type, mode }: ArchiveEntry): number {
  const types: Partial<Record<ArchiveEntry['type'], number>> = FileType;
  return (types[type] ?? FileType.file) | mode;
}

function flags(descriptor: boolean): number {
  return Flag.utf8 | (descriptor ? Flag.descriptor : 0);
}

/** UT: seconds since the epoch, signed 32 bits; only the time of modification. */
function timesField({ mtime }: ArchiveEntry): Buffer {
  const seconds = Buffer.alloc(4);
  seconds.writeInt32LE(Math.max(-MAX_INT_32, Math.min(MAX_INT_32, mtime)));
  return extraField(Extra.times, [Buffer.from([1]), seconds]);
}

/** ux, version 1: numbers with their lengths. */
function ownerField({ uid, gid }: ArchiveEntry): Buffer {
  return extraField(Extra.owner, [Buffer.from([1, 4]), u32(uid), Buffer.from([4]), u32(gid)]);
}

function extraField(id: number, parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([u16(id), u16(content.byteLength), content]);
}

/** MS-DOS's own time, in UTC: from 1980 to 2107, every other second. Readers that know `UT` do not look at it. */
function dosTime(seconds: number): { time: number; date: number } {
  const earliest = Date.UTC(1980, 0, 1) / 1000;
  const latest = Date.UTC(2107, 11, 31, 23, 59, 58) / 1000;
  const at = new Date(Math.max(earliest, Math.min(latest, seconds)) * 1000);
  return {
    time: (at.getUTCHours() << 11) | (at.getUTCMinutes() << 5) | (at.getUTCSeconds() >> 1),
    date: ((at.getUTCFullYear() - 1980) << 9) | ((at.getUTCMonth() + 1) << 5) | at.getUTCDate(),
  };
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
