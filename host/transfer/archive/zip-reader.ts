/**
 * Reads a zip. Its directory stands at the end and counts, so all of it must be there first: in a spool. yauzl reads the
 * directory; what a local header says must agree with it, because programs differ in which of the two they believe.
 */

import zlib from 'node:zlib';
import { type Entry, fromFdPromise, getFileNameLowLevel, type ZipFile } from 'yauzl';
import { toError } from '../../lib/errors.ts';
import { isText, type RawName, rawBytes, rawName } from '../../lib/raw-name.ts';
import type { EntryType } from '../../lib/tar/header.ts';
import type { Bytes } from '../types.ts';
import { type ArchiveEntry, type EntrySource, NO_ATTRIBUTES } from './entry.ts';
import { archiveError } from './errors.ts';
import type { ArchiveLimits, Meter } from './limits.ts';
import { shownName } from './names.ts';
import { Spool } from './spool.ts';
import { collected, gathered } from './stream.ts';
import { Extra, FileType, Method } from './zip-format.ts';
import { decompress, inflateSmall } from './zlib.ts';

export interface ZipReaderOptions {
  tempFolder: string;
  limits: ArchiveLimits;
  meter: Meter;
  signal: AbortSignal;
}

const Flag = { encrypted: 1 << 0, strong: 1 << 6, utf8: 1 << 11, masked: 1 << 13 } as const;
/** Systems that made a zip (APPNOTE 4.4.2.2): those with Unix's modes, and those whose separator is a backslash. */
const UNIX_SYSTEMS = new Set([3, 19]);
const DOS_SYSTEMS = new Set([0, 6, 10, 11, 14]);
const DOS_DIRECTORY = 0x10;
const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;

const TYPES: Readonly<Record<number, EntryType>> = {
  0: 'file',
  [FileType.file]: 'file',
  [FileType.directory]: 'directory',
  [FileType.symlink]: 'symlink',
  [FileType.character]: 'character',
  [FileType.block]: 'block',
  [FileType.fifo]: 'fifo',
};

/** Files of which both sizes are at most this many bytes are inflated at once. */
const SMALL = 128 * 1024;

interface Current {
  entry: Entry;
  /** Where its content is. */
  start: number;
  name: RawName;
}

export class ZipReader implements EntrySource {
  readonly #options: ZipReaderOptions;
  readonly #spool: Spool;
  readonly #zip: ZipFile;
  /** The entry that was read last. */
  #current: Current | null = null;
  /** Packed bytes of all entries: more than there are would be the same ones twice. */
  #packed = 0;
  #failure: unknown = null;

  private constructor(options: ZipReaderOptions, spool: Spool, zip: ZipFile) {
    this.#options = options;
    this.#spool = spool;
    this.#zip = zip;
    // Beside a wait: it must not be nobody's.
    zip.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  /** Reads `bytes` to their end. @throws {YavmError} YAVM_E_ARCHIVE, YAVM_E_ARCHIVE_SPOOL, YAVM_E_ARCHIVE_LIMIT */
  static async open(bytes: Bytes, options: ZipReaderOptions): Promise<ZipReader> {
    const spool = await Spool.create(options.tempFolder);
    try {
      for await (const piece of gathered(bytes)) {
        options.meter.packed(piece.byteLength);
        await spool.append(piece);
      }
      const zip = await read(fromFdPromise(spool.fd, { autoClose: false, decodeStrings: false }));
      return new ZipReader(options, spool, zip);
    } catch (error) {
      await spool.close();
      throw error;
    }
  }

  async next(): Promise<ArchiveEntry | null> {
    this.#current = null;
    const entry = await read(this.#record());
    return entry && (await this.#entry(entry));
  }

  async *content(): Bytes {
    const current = this.#current;
    this.#current = null;
    if (!current) return;
    const { entry, name } = current;
    let crc = 0;
    let came = 0;
    for await (const piece of this.#inflated(current)) {
      came += piece.byteLength;
      if (came > entry.uncompressedSize) break;
      crc = zlib.crc32(piece, crc);
      this.#options.meter.unpacked(piece.byteLength);
      yield piece;
    }
    if (came !== entry.uncompressedSize)
      throw archiveError(`${shownName(name)} has not the size that it says`);
    if (crc !== entry.crc32) throw archiveError(`${shownName(name)} has a wrong checksum`);
  }

  async *#inflated({ entry, start, name }: Current): Bytes {
    const { compressedSize: packed, uncompressedSize: size, compressionMethod } = entry;
    const bytes = this.#spool.read(start, start + packed);
    if (compressionMethod === Method.stored) {
      yield* bytes;
    } else if (packed > SMALL || size > SMALL) {
      yield* decompress('deflate', bytes, this.#options.signal);
    } else {
      const content = inflateSmall(await collected(bytes, packed), size);
      if (!content) throw archiveError(`${shownName(name)} is damaged, or has not the size that it says`);
      yield content;
    }
  }

  close(): Promise<void> {
    this.#current = null;
    return this.#spool.close();
  }

  /** The next record of the directory; null at its end. */
  #record(): Promise<Entry | null> {
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        this.#zip.off('entry', onEntry);
        this.#zip.off('end', onEnd);
        this.#zip.off('error', onError);
        act();
      };
      const onEntry = (entry: Entry) => settle(() => resolve(entry));
      const onEnd = () => settle(() => resolve(null));
      const onError = (error: unknown) => settle(() => reject(error));
      if (this.#failure) return reject(this.#failure);
      this.#zip.on('entry', onEntry);
      this.#zip.on('end', onEnd);
      this.#zip.on('error', onError);
      this.#zip.readEntry();
    });
  }

  async #entry(entry: Entry): Promise<ArchiveEntry> {
    const name = nameOf(entry);
    const { uncompressedSize: size, generalPurposeBitFlag: flags, compressionMethod: method } = entry;
    if ((flags & (Flag.encrypted | Flag.strong | Flag.masked)) !== 0) {
      throw archiveError(`${shownName(name)} is encrypted`);
    }
    if (method !== Method.stored && method !== Method.deflated) {
      throw archiveError(`${shownName(name)} is compressed by method ${method}, which is not supported`, {
        hint: "Supported are 'store' and 'deflate', what programs use unless told otherwise.",
      });
    }
    this.#packed += entry.compressedSize;
    if (this.#packed > this.#spool.size) throw archiveError('its files overlap');
    const local = await read(this.#zip.readLocalFileHeaderPromise(entry, { minimal: false }));
    if (!local.fileName.equals(rawNameOf(entry)) || local.compressionMethod !== method) {
      throw archiveError(`${shownName(name)} is something else in the zip's directory than at its place`);
    }
    const { type, mode } = kindOf(entry, name);
    if (type === 'directory' && size > 0) throw archiveError(`the directory ${shownName(name)} has content`);
    this.#current = { entry, start: local.fileDataStart, name };
    const target = type === 'symlink' ? await this.#target(name, size) : '';
    return {
      ...{ name, type, mode, target, attributes: NO_ATTRIBUTES },
      ...ownerOf(entry),
      size: type === 'file' ? size : 0,
      mtime: Math.floor(entry.getLastModDate({ timezone: 'UTC' }).getTime() / 1000) || 0,
    };
  }

  async #target(name: RawName, size: number): Promise<RawName> {
    if (size >= this.#options.limits.name) {
      throw archiveError(`the target of the link ${shownName(name)} has ${size} bytes`);
    }
    return rawBytes(await collected(this.content(), size));
  }
}

/** Without `decodeStrings` it is bytes, whatever the types say. */
function rawNameOf(entry: Entry): Buffer {
  return entry.fileNameRaw;
}

/** The name, UTF-8 or from the old encoding of MS-DOS, where it is neither said nor seen to be UTF-8. */
function nameOf(entry: Entry): RawName {
  const bytes = rawNameOf(entry);
  const raw = rawBytes(bytes);
  const unicode = getFileNameLowLevel(entry.generalPurposeBitFlag, bytes, entry.extraFields, true);
  const marked = (entry.generalPurposeBitFlag & Flag.utf8) !== 0;
  if (marked && !isText(raw)) throw archiveError(`the name ${shownName(raw)} is not the UTF-8 that it says`);
  const replaced = entry.extraFields.some(({ id }) => id === UNICODE_PATH);
  const name = isText(raw) && !replaced ? raw : rawName(unicode);
  return separated(name, entry.versionMadeBy >> 8);
}

/** Info-ZIP's Unicode path: replaces a name if the checksum of that fits. */
const UNICODE_PATH = 0x7075;

/** Where backslashes separate, they become slashes. Elsewhere they are characters, but not if they climb. */
function separated(name: RawName, system: number): RawName {
  if (!name.includes('\\') && !name.includes(':')) return name;
  const slashes = name.replaceAll('\\', '/');
  if (/^[A-Za-z]:(\/|$)/.test(slashes) || (DOS_SYSTEMS.has(system) && /^[A-Za-z]:/.test(slashes))) {
    throw archiveError(`the name ${shownName(name)} begins with a drive`);
  }
  if (DOS_SYSTEMS.has(system)) return slashes;
  if (slashes.startsWith('/') || slashes.split('/').includes('..')) {
    throw archiveError(`the name ${shownName(name)} leads out of the directory`);
  }
  return name;
}

function kindOf(entry: Entry, name: RawName): { type: EntryType; mode: number } {
  const unix = UNIX_SYSTEMS.has(entry.versionMadeBy >> 8) ? entry.externalFileAttributes >>> 16 : 0;
  const slash = name.endsWith('/');
  const marked = (entry.externalFileAttributes & DOS_DIRECTORY) !== 0 && unix === 0;
  const type = TYPES[unix & FileType.mask];
  if (!type) throw archiveError(`${shownName(name)} is of a type that is not supported`);
  if (type !== 'file' && type !== 'directory' && slash) {
    throw archiveError(`${shownName(name)} is a directory by its name and none by its mode`);
  }
  if (slash || marked || type === 'directory') {
    return { type: 'directory', mode: unix === 0 ? DIRECTORY_MODE : unix & 0o7777 };
  }
  return { type, mode: unix === 0 ? FILE_MODE : unix & 0o7777 };
}

/** Info-ZIP's `ux`, version 1, with numbers of 4 bytes; else root's, as the files of most zips belong to nobody. */
function ownerOf(entry: Entry): { uid: number; gid: number } {
  const field = entry.extraFields.find(({ id }) => id === Extra.owner)?.data;
  if (!field || field.length < 11 || field[0] !== 1 || field[1] !== 4 || field[6] !== 4)
    return { uid: 0, gid: 0 };
  return { uid: field.readUInt32LE(2), gid: field.readUInt32LE(7) };
}

/** What yauzl reads. Its refusals are plain errors. */
async function read<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw archiveError(`it is no whole zip: ${toError(error).message.slice(0, 300)}`, { cause: error });
  }
}
