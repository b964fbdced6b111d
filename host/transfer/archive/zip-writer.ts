/**
 * Writes a zip as its files come. Its directory, which stands at the end, waits in a spool, and so does what was written: a
 * zip has no hard links, so a file's second name gets a copy of its content, which the tar brings only once.
 */
import zlib from 'node:zlib';
import { isText, nameBytes, type RawName } from '../../lib/raw-name.ts';
import type { Bytes } from '../types.ts';
import type { ArchiveEntry, EntrySink } from './entry.ts';
import { archiveError } from './errors.ts';
import { type ArchiveLimits, limitError } from './limits.ts';
import { shownName } from './names.ts';
import { Spool } from './spool.ts';
import { collected, one } from './stream.ts';
import {
  centralHeader,
  dataDescriptor,
  endRecords,
  localHeader,
  Method,
  needsZip64,
  type ZipMember,
} from './zip-format.ts';
import { compress } from './zlib.ts';

export interface ZipWriterOptions {
  stored: boolean;
  tempFolder: string;
  limits: ArchiveLimits;
  signal: AbortSignal;
}

/** Files up to this size are deflated at once: an engine for each would cost more than its work. */
const SMALL = 32 * 1024;
/** Directory records are written to the spool in pieces of about this size. */
const BATCH = 64 * 1024;

/** A file's content, or a link's target, in what was written. */
interface Content extends Pick<ZipMember, 'method' | 'crc' | 'packed' | 'size'> {
  type: 'file' | 'symlink';
  at: number;
}

export class ZipWriter implements EntrySink {
  readonly #options: ZipWriterOptions;
  readonly #contents: Spool;
  readonly #directory: Spool;
  /** By name, for those that are hard links to it. */
  readonly #files = new Map<RawName, Content>();
  #batch: Buffer[] = [];
  #batched = 0;
  #entries = 0;
  #written = 0;

  private constructor(options: ZipWriterOptions, contents: Spool, directory: Spool) {
    this.#options = options;
    this.#contents = contents;
    this.#directory = directory;
  }

  /** @throws {YavmError} YAVM_E_ARCHIVE_SPOOL */
  static async create(options: ZipWriterOptions): Promise<ZipWriter> {
    const contents = await Spool.create(options.tempFolder);
    try {
      return new ZipWriter(options, contents, await Spool.create(options.tempFolder));
    } catch (error) {
      await contents.close();
      throw error;
    }
  }

  async *entry(entry: ArchiveEntry, content: Bytes): Bytes {
    if (++this.#entries > this.#options.limits.entries) {
      throw limitError(`more than ${this.#options.limits.entries} entries`);
    }
    if (!isText(entry.name)) {
      throw archiveError(`the name ${shownName(entry.name)} is not UTF-8, as a zip's must be`, {
        hint: 'Ask for a tar, which takes all names.',
      });
    }
    if (entry.type === 'symlink') yield* this.#whole(entry, nameBytes(entry.target));
    else if (entry.type === 'directory') yield* this.#whole(entry, Buffer.alloc(0));
    else if (entry.type === 'hardlink') yield* this.#copy(entry);
    else if (entry.size <= SMALL) yield* this.#whole(entry, await contentOf(entry, content));
    else yield* this.#stream(entry, content);
  }

  async *end(): Bytes {
    await this.#flush();
    const offset = this.#written;
    yield* this.#directory.read(0, this.#directory.size);
    yield endRecords(this.#entries, this.#directory.size, offset);
  }

  async close(): Promise<void> {
    await Promise.all([this.#contents.close(), this.#directory.close()]);
  }

  /** What is in memory: its checksum and sizes stand before it. */
  async *#whole(entry: ArchiveEntry, bytes: Buffer): Bytes {
    const deflated = this.#options.stored || bytes.byteLength === 0 ? bytes : zlib.deflateRawSync(bytes);
    const smaller = deflated.byteLength < bytes.byteLength;
    const packed = smaller ? deflated : bytes;
    const content: Content = {
      type: entry.type === 'symlink' ? 'symlink' : 'file',
      method: smaller ? Method.deflated : Method.stored,
      crc: zlib.crc32(bytes),
      packed: packed.byteLength,
      size: bytes.byteLength,
      at: this.#contents.size,
    };
    if (entry.type !== 'directory') {
      await this.#contents.append(packed);
      this.#files.set(entry.name, content);
    }
    yield* this.#known(entry, content, one(packed));
  }

  async *#copy(entry: ArchiveEntry): Bytes {
    const content = this.#files.get(entry.target);
    if (!content) {
      throw archiveError(
        `${shownName(entry.name)} is the same file as ${shownName(entry.target)}, which is not there`,
      );
    }
    this.#files.set(entry.name, content);
    const copy = { ...entry, type: content.type };
    yield* this.#known(copy, content, this.#contents.read(content.at, content.at + content.packed));
  }

  async *#known(entry: ArchiveEntry, content: Content, packed: Bytes): Bytes {
    const { method, crc, size } = content;
    const zip64 = needsZip64(size);
    const offset = this.#written;
    const member = { entry, method, crc, size, packed: content.packed, zip64, descriptor: false, offset };
    yield* this.#counted(one(localHeader(member)));
    yield* this.#counted(packed);
    await this.#list(member);
  }

  /** What is not: they stand behind it. */
  async *#stream(entry: ArchiveEntry, content: Bytes): Bytes {
    const { stored, signal } = this.#options;
    const at = this.#contents.size;
    const member: ZipMember = {
      ...{ entry, crc: 0, packed: 0, size: 0, descriptor: true, offset: this.#written },
      ...{ method: stored ? Method.stored : Method.deflated, zip64: needsZip64(entry.size) },
    };
    yield* this.#counted(one(localHeader(member)));
    const summed = summing(content, member);
    for await (const piece of this.#counted(stored ? summed : compress('deflate', summed, signal))) {
      member.packed += piece.byteLength;
      await this.#contents.append(piece);
      yield piece;
    }
    checkSize(entry, member.size);
    const { method, crc, packed, size } = member;
    this.#files.set(entry.name, { type: 'file', method, crc, packed, size, at });
    yield* this.#counted(one(dataDescriptor(member)));
    await this.#list(member);
  }

  async *#counted(bytes: Bytes): Bytes {
    for await (const piece of bytes) {
      this.#written += piece.byteLength;
      yield piece;
    }
  }

  async #list(member: ZipMember): Promise<void> {
    const record = centralHeader(member);
    this.#batch.push(record);
    this.#batched += record.byteLength;
    if (this.#batched >= BATCH) await this.#flush();
  }

  async #flush(): Promise<void> {
    const batch = Buffer.concat(this.#batch);
    this.#batch = [];
    this.#batched = 0;
    await this.#directory.append(batch);
  }
}

async function* summing(bytes: Bytes, member: ZipMember): Bytes {
  for await (const piece of bytes) {
    member.crc = zlib.crc32(piece, member.crc);
    member.size += piece.byteLength;
    yield piece;
  }
}

async function contentOf(entry: ArchiveEntry, content: Bytes): Promise<Buffer> {
  const bytes = await collected(content, entry.size);
  checkSize(entry, bytes.byteLength);
  return bytes;
}

function checkSize({ name, size }: ArchiveEntry, came: number): void {
  if (came !== size) throw archiveError(`${shownName(name)} has not the size that it says`);
}
