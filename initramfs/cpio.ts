/**
 * The "newc" cpio format, which the kernel unpacks an initramfs from (Documentation/driver-api/early-userspace/
 * buffer-format.rst). One record an entry, all numbers 8 hexadecimal digits:
 *
 * ```
 * "070701" ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
 * name, NUL, padding to 4 bytes · data (of a file), or target (of a symbolic link), padding to 4 bytes
 * ```
 *
 * The last record is named `TRAILER!!!`. Written sorted, owned by root, with one time and counted inode numbers:
 * the same entries always make the same bytes.
 */
import { ArchiveError, ContentError } from './errors.ts';

/** One entry. `path` is absolute in the guest, without a trailing slash. `mode`: permission bits (0o7777). */
export type Entry =
  | { type: 'directory'; path: string; mode: number }
  | { type: 'file'; path: string; mode: number; data: Uint8Array }
  | { type: 'symlink'; path: string; target: string }
  | { type: 'character' | 'block'; path: string; mode: number; major: number; minor: number };

const MAGIC = '070701';
const HEADER = 6 + 13 * 8;
const TRAILER = 'TRAILER!!!';
/** File type bits of st_mode. */
const TYPE_BITS = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
  character: 0o020000,
  block: 0o060000,
} as const;
/** The kernel's PATH_MAX, with the NUL. */
const MAX_NAME = 4096;
const MAX_SIZE = 0xffff_ffff;

/**
 * Packs entries. Missing parent folders are added (0755); a folder may be named twice, nothing else.
 * @param mtime Seconds since the epoch, of every entry.
 * @throws {ContentError} a bad path, or two entries at one path.
 */
export function packCpio(entries: readonly Entry[], mtime = 0): Buffer {
  const parts: Buffer[] = [];
  let inode = 0;
  for (const entry of arrange(entries)) {
    const data = dataOf(entry);
    if (data.length > MAX_SIZE)
      throw new ContentError(`${entry.path}: larger than 4 GiB, which cpio cannot hold`);
    const device = 'major' in entry ? [entry.major, entry.minor] : [0, 0];
    const mode = TYPE_BITS[entry.type] | (entry.type === 'symlink' ? 0o777 : entry.mode);
    const links = entry.type === 'directory' ? 2 : 1;
    const fields = [++inode, mode, 0, 0, links, mtime, data.length, 0, 0, ...device];
    parts.push(...record(entry.path.slice(1), fields, data));
  }
  parts.push(...record(TRAILER, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], Buffer.alloc(0)));
  return Buffer.concat(parts);
}

/**
 * Unpacks a newc archive (one segment).
 * @throws {ArchiveError} it is none, truncated, or has an entry that is unknown here.
 */
export function unpackCpio(bytes: Uint8Array): Entry[] {
  const archive = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: Entry[] = [];
  let at = 0;
  for (;;) {
    const header = take(archive, at, HEADER, 'a header').toString('latin1');
    if (!header.startsWith(MAGIC)) throw new ArchiveError(`no cpio (newc) header at byte ${at}`);
    const field = (index: number) => hexField(header, index, at);
    const [size, nameSize] = [field(6), field(11)];
    if (nameSize < 1 || nameSize > MAX_NAME)
      throw new ArchiveError(`a name of ${nameSize} bytes at byte ${at}`);
    const name = take(archive, at + HEADER, nameSize - 1, 'a name').toString('utf8');
    if (name === TRAILER) return entries;
    const dataAt = at + align4(HEADER + nameSize);
    const data = take(archive, dataAt, size, name);
    entries.push(decode(name, field(1), data, field(9), field(10)));
    at = dataAt + align4(size);
  }
}

function decode(name: string, mode: number, data: Buffer, major: number, minor: number): Entry {
  const path = `/${name.replace(/^\.?\/+/, '')}`;
  const permissions = mode & 0o7777;
  switch (mode & 0o170000) {
    case TYPE_BITS.directory:
      return { type: 'directory', path, mode: permissions };
    case TYPE_BITS.file:
      return { type: 'file', path, mode: permissions, data };
    case TYPE_BITS.symlink:
      return { type: 'symlink', path, target: data.toString('utf8') };
    case TYPE_BITS.character:
      return { type: 'character', path, mode: permissions, major, minor };
    case TYPE_BITS.block:
      return { type: 'block', path, mode: permissions, major, minor };
    default:
      throw new ArchiveError(`${path}: mode ${mode.toString(8)} is no file, folder, link or device`);
  }
}

/** Adds parents and sorts by the bytes of the path, which puts each folder before what is in it. */
function arrange(entries: readonly Entry[]): Entry[] {
  const byPath = new Map<string, Entry>();
  for (const entry of entries) {
    checkPath(entry.path);
    const other = byPath.get(entry.path);
    if (other && !(other.type === 'directory' && entry.type === 'directory'))
      throw new ContentError(`${entry.path}: is in the initramfs twice (${other.type} and ${entry.type})`);
    byPath.set(entry.path, entry);
  }
  for (const { path } of entries)
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const parent = byPath.get(path.slice(0, end));
      if (parent && parent.type !== 'directory')
        throw new ContentError(`${path}: ${parent.path} is a ${parent.type}, not a folder`);
      if (!parent)
        byPath.set(path.slice(0, end), { type: 'directory', path: path.slice(0, end), mode: 0o755 });
    }
  return [...byPath.values()].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
}

function checkPath(path: string): void {
  const parts = path.split('/');
  const good =
    parts[0] === '' && parts.length > 1 && parts.slice(1).every((part) => !/^(|\.|\.\.)$/.test(part));
  if (!good || path.includes('\0') || Buffer.byteLength(path) >= MAX_NAME || path === `/${TRAILER}`)
    throw new ContentError(
      `${JSON.stringify(path)}: not an absolute, plain path of at most ${MAX_NAME} bytes`,
    );
}

function dataOf(entry: Entry): Uint8Array {
  if (entry.type === 'file') return entry.data;
  return entry.type === 'symlink' ? Buffer.from(entry.target) : Buffer.alloc(0);
}

/** Header, name and data, each padded. `fields` are the first eleven. */
function record(name: string, fields: number[], data: Uint8Array): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`);
  const numbers = [...fields, nameBytes.length, 0];
  const header = Buffer.from(MAGIC + numbers.map((n) => n.toString(16).padStart(8, '0')).join(''), 'latin1');
  const padName = Buffer.alloc(align4(HEADER + nameBytes.length) - HEADER - nameBytes.length);
  const padData = Buffer.alloc(align4(data.length) - data.length);
  return [header, nameBytes, padName, Buffer.from(data.buffer, data.byteOffset, data.byteLength), padData];
}

function hexField(header: string, index: number, at: number): number {
  const text = header.slice(6 + index * 8, 14 + index * 8);
  if (!/^[0-9a-fA-F]{8}$/.test(text)) throw new ArchiveError(`a damaged cpio header at byte ${at}`);
  return Number.parseInt(text, 16);
}

function take(archive: Buffer, at: number, size: number, what: string): Buffer {
  if (at + size > archive.length) throw new ArchiveError(`truncated inside ${what} (byte ${archive.length})`);
  return archive.subarray(at, at + size);
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4;
}
