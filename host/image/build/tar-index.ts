/**
 * What is in a tar, and where: only headers are read, so that an index of a large layer takes no longer than its number
 * of files. Content is read later, at its place. Names, link targets and attributes stay the bytes that they are.
 */
import { nameBytes, type RawName } from '../../lib/raw-name.ts';
import { TarError } from '../../lib/tar/error.ts';
import {
  BLOCK,
  decodeHeader,
  ENTRY_TYPES,
  type EntryType,
  MAX_ID,
  paddedSize,
  type TarHeader,
  TypeFlag,
} from '../../lib/tar/header.ts';
import { decodePax, type PaxRecord, paxNumber, wholeNumber, XATTR_KEY } from '../../lib/tar/pax.ts';
import { ImageArchiveError } from '../errors.ts';
import { nextTurn, readPart, type Section } from './section.ts';
import { checkSparse, oldSparse, paxSparse, type Segment, type SparseMap } from './sparse.ts';

/** Content of a regular file: a part of the archive, and where that belongs when the file has holes. */
export interface Content {
  archive: Section;
  /** In the archive. */
  at: number;
  /** Bytes of the file, holes included. */
  size: number;
  /** Null: the content is whole. */
  segments: Segment[] | null;
}

export interface TarEntry {
  type: EntryType;
  /** As it stands in the archive: nothing is resolved or refused yet. */
  name: RawName;
  linkName: RawName;
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since the epoch, as squashfs can keep them. */
  mtime: number;
  major: number;
  minor: number;
  /** Extended attributes by name; null: none. */
  xattrs: ReadonlyMap<string, Buffer> | null;
  /** Of regular files. */
  content: Content | null;
}

export interface IndexOptions {
  signal: AbortSignal;
  /** An archive without its end mark was cut off. Layers, whose digest is known, may do without. */
  needsEnd?: boolean;
}

/** Largest pax header and longest GNU name, bytes. An attribute has at most 64 KiB, a path 4 KiB. */
const MAX_PAX = 4 * 1024 * 1024;
const MAX_NAME = 64 * 1024;
/** Headers about one entry. */
const MAX_META = 16;
/** Bytes of the archive read at a time where small files lie side by side, and behind a large one. */
const WINDOW = 256 * 1024;
const FIRST_WINDOW = 4096;
/** Entries after which others get their turn. */
const TURN = 1000;
/** Times that squashfs can keep, seconds: 32 bits without a sign. */
const MAX_TIME = 2 ** 32 - 1;

const TYPES: Readonly<Record<string, EntryType>> = { ...ENTRY_TYPES, [TypeFlag.sparse]: 'file' };

/** All entries, in the archive's order. @throws {ImageArchiveError} the message begins with the archive's name and the place. */
export async function* readTarIndex(archive: Section, options: IndexOptions): AsyncGenerator<TarEntry> {
  const reader = new Reader(archive, options.needsEnd !== false);
  for (let count = 1; ; count++) {
    const entry = reader.next();
    if (entry === null) return;
    yield entry;
    if (count % TURN !== 0) continue;
    await nextTurn();
    options.signal.throwIfAborted();
  }
}

/** What the headers before an entry say about it. */
interface Meta {
  records: PaxRecord[];
  name?: RawName;
  linkName?: RawName;
}

class Reader {
  readonly #archive: Section;
  readonly #needsEnd: boolean;
  readonly #buffer: Buffer;
  #at = 0;
  #window: Buffer = Buffer.alloc(0);
  #windowAt = 0;
  #global: PaxRecord[] = [];

  constructor(archive: Section, needsEnd: boolean) {
    this.#archive = archive;
    this.#needsEnd = needsEnd;
    this.#buffer = Buffer.allocUnsafe(Math.min(WINDOW, archive.size));
  }

  /** The next entry, null at the end. */
  next(): TarEntry | null {
    const place = this.#at;
    try {
      return this.#next();
    } catch (error) {
      if (error instanceof TarError)
        throw new ImageArchiveError(`${this.#archive.name}: at byte ${error.offset}: ${error.reason}`);
      if (error instanceof ImageArchiveError && !error.message.startsWith(this.#archive.name))
        error.message = `${this.#archive.name}: at byte ${place}: ${error.message}`;
      throw error;
    }
  }

  #next(): TarEntry | null {
    const meta: Meta = { records: [] };
    for (let count = 0; count <= MAX_META; count++) {
      const at = this.#at;
      const block = this.#block();
      const header = block && decodeHeader(block, at);
      if (!header) {
        if (count > 0) throw new ImageArchiveError('the archive ends behind a header about the next entry');
        return null;
      }
      if (!this.#takeMeta(header, meta)) return this.#entry(header, block, meta);
    }
    throw new ImageArchiveError(`more than ${MAX_META} headers about one entry`);
  }

  /** The block that is next; null at the archive's end, when the end mark may be missing. */
  #block(): Buffer | null {
    if (this.#at + BLOCK > this.#archive.size) {
      const atEnd = this.#at === this.#archive.size;
      if (atEnd && !this.#needsEnd) return null;
      throw new ImageArchiveError(atEnd ? 'the end mark is missing: it was cut off' : 'it was cut off');
    }
    const inside = this.#at - this.#windowAt;
    if (inside < 0 || inside + BLOCK > this.#window.length) {
      // Behind large content there may be large content again; what is read to the window's end grows it.
      const grown =
        inside > this.#window.length ? FIRST_WINDOW : Math.max(this.#window.length * 4, FIRST_WINDOW);
      const length = Math.min(grown, WINDOW, this.#archive.size - this.#at);
      // One buffer for all windows: fresh memory costs more than the reading. What is kept of a header is copied out of it.
      this.#window = this.#buffer.subarray(0, length);
      this.#archive.read(this.#window, this.#at);
      this.#windowAt = this.#at;
    }
    const block = this.#window.subarray(this.#at - this.#windowAt, this.#at - this.#windowAt + BLOCK);
    this.#at += BLOCK;
    return block;
  }

  /** Takes a header that is about the next entry, with its content. @returns false: it is an entry. */
  #takeMeta(header: TarHeader, meta: Meta): boolean {
    switch (header.flag) {
      case TypeFlag.pax:
        meta.records = this.#records(header);
        return true;
      case TypeFlag.globalPax:
        this.#global = this.#records(header);
        return true;
      case TypeFlag.longName:
        meta.name = untilNul(this.#metaContent(header, MAX_NAME));
        return true;
      case TypeFlag.longLink:
        meta.linkName = untilNul(this.#metaContent(header, MAX_NAME));
        return true;
      case TypeFlag.volumeLabel:
        this.#skip(header.size);
        return true;
      default:
        return false;
    }
  }

  #records(header: TarHeader): PaxRecord[] {
    const at = this.#at;
    return decodePax(this.#metaContent(header, MAX_PAX), at);
  }

  #metaContent({ size }: TarHeader, limit: number): Buffer {
    if (size > limit)
      throw new ImageArchiveError(`a header about the next entry has ${size} bytes, more than ${limit}`);
    const bytes = readPart(this.#archive, this.#at, size);
    this.#skip(size);
    return bytes;
  }

  #skip(size: number): void {
    // The last block's padding may be missing where the end mark may.
    if (this.#at + size > this.#archive.size)
      throw new ImageArchiveError('it was cut off in the middle of a file');
    this.#at = Math.min(this.#at + paddedSize(size), this.#archive.size);
  }

  #entry(header: TarHeader, block: Buffer, meta: Meta): TarEntry {
    // In V7's archives a directory is told by its slash.
    const old = header.flag === TypeFlag.file && header.name.endsWith('/');
    const type = old ? 'directory' : TYPES[header.flag];
    if (!type) throw new ImageArchiveError(`an entry of the unknown type ${JSON.stringify(header.flag)}`);
    const place = this.#at - BLOCK;
    const records = this.#global.length > 0 ? [...this.#global, ...meta.records] : meta.records;
    const entry: TarEntry = {
      type,
      name: meta.name ?? header.name,
      linkName: meta.linkName ?? header.target,
      mode: header.mode,
      uid: header.uid,
      gid: header.gid,
      mtime: header.mtime,
      major: header.major,
      minor: header.minor,
      xattrs: null,
      content: null,
    };
    let size = header.size;
    const xattrs = new Map<string, Buffer>();
    for (const record of records) {
      if (record[0] === 'size') size = paxNumber(record, place);
      else applyRecord(entry, record, xattrs, place);
    }
    // The path of such a file is made up, for readers that do not know of holes.
    const sparseName = records.findLast(([key]) => key === 'GNU.sparse.name');
    if (sparseName) entry.name = sparseName[1];
    if (xattrs.size > 0) entry.xattrs = xattrs;
    entry.mtime = Math.min(Math.max(entry.mtime, 0), MAX_TIME);
    wholeNumber(entry.uid, MAX_ID, 'uid', place);
    wholeNumber(entry.gid, MAX_ID, 'gid', place);
    wholeNumber(size, Number.MAX_SAFE_INTEGER, 'size', place);
    if (type === 'file') {
      const behind = this.#at;
      const sparse = header.flag === TypeFlag.sparse ? oldSparse(block, this.#archive, behind) : null;
      // The old form's map is not counted in the size, the others' is.
      if (sparse) this.#skip(sparse.mapSize);
      entry.content = this.#content(size, records, sparse);
      this.#skip(size);
    } else if (type !== 'hardlink' && type !== 'symlink') {
      // Links have a size in some archives, but never content.
      this.#skip(size);
    }
    return entry;
  }

  #content(size: number, records: readonly PaxRecord[], old: SparseMap | null): Content {
    const archive = this.#archive;
    const at = this.#at;
    const sparse = old ?? paxSparse(records, archive, { at, size });
    if (!sparse) return { archive, at, size, segments: null };
    const before = old ? 0 : sparse.mapSize;
    checkSparse(sparse, size - before);
    return { archive, at: at + before, size: sparse.size, segments: sparse.segments };
  }
}

/** Attributes as libarchive writes them beside the raw ones: base64, the name in percent form. */
const LIBARCHIVE_KEY = 'LIBARCHIVE.xattr.';

/** `place`: the entry's, for errors. */
function applyRecord(entry: TarEntry, record: PaxRecord, xattrs: Map<string, Buffer>, place: number): void {
  const [key, value] = record;
  switch (key) {
    case 'path':
    case 'linkpath':
      // Empty: the header's own counts (POSIX).
      if (value === '') return;
      if (key === 'path') entry.name = value;
      else entry.linkName = value;
      return;
    case 'uid':
    case 'gid':
      entry[key] = paxNumber(record, place);
      return;
    case 'mtime':
      entry.mtime = Math.floor(paxNumber(record, place));
      return;
  }
  if (key.startsWith(XATTR_KEY)) xattrs.set(key.slice(XATTR_KEY.length), nameBytes(value));
  else if (key.startsWith(LIBARCHIVE_KEY)) {
    const name = percentDecoded(key.slice(LIBARCHIVE_KEY.length));
    // Where a writer gives both forms, the raw one counts.
    if (!xattrs.has(name)) xattrs.set(name, Buffer.from(value, 'base64'));
  }
}

function percentDecoded(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function untilNul(bytes: Buffer): RawName {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end < 0 ? bytes.length : end);
}
