/** A tar as a sequence of entries: extended headers are read and applied, everything is bounded. */
import { type RawName, rawBytes } from '../../lib/raw-name.ts';
import {
  BLOCK,
  decodeHeader,
  ENTRY_TYPES,
  isZero,
  MAX_ID,
  paddedSize,
  type TarHeader,
  TypeFlag,
} from '../../lib/tar/header.ts';
import { decodePax, paxNumber, wholeNumber, XATTR_KEY } from '../../lib/tar/pax.ts';
import type { Bytes } from '../types.ts';
import { ByteReader } from './byte-reader.ts';
import { type ArchiveEntry, type EntrySource, NO_ATTRIBUTES } from './entry.ts';
import { codedTarError, damagedTar } from './errors.ts';
import { CHUNK } from './stream.ts';

/** Largest extended header, bytes, also of the guest: paths have at most 4096, the rest is room for attributes. */
const MAX_EXTENSION = 64 * 1024;
/** Records that make no sense for all entries. */
const NOT_GLOBAL = ['path', 'linkpath', 'size'];
const GLOBAL_KEYS: ReadonlySet<string> = new Set(['uid', 'gid', 'mtime']);

type PaxRecords = Map<string, RawName>;
const NO_RECORDS: PaxRecords = new Map();

export class TarReader implements EntrySource {
  readonly #input: ByteReader;
  readonly #global: PaxRecords = new Map();
  /** Content of the current entry that was not handed out, and its padding. */
  #left = 0;
  #padding = 0;
  #ended = false;

  constructor(bytes: Bytes) {
    this.#input = new ByteReader(bytes);
  }

  /** At the archive's end its bytes have been read to theirs. @throws {YavmError} YAVM_E_ARCHIVE */
  async next(): Promise<ArchiveEntry | null> {
    if (this.#ended) return null;
    try {
      return await this.#next();
    } catch (error) {
      throw codedTarError(error);
    }
  }

  async #next(): Promise<ArchiveEntry | null> {
    await this.#skip();
    let records = NO_RECORDS;
    for (;;) {
      const offset = this.#input.offset;
      const header = decodeHeader(await this.#block(offset), offset);
      if (!header) {
        if (records.size > 0) throw damagedTar('an extended header without its entry', offset);
        await this.#end();
        return null;
      }
      switch (header.flag) {
        case TypeFlag.pax:
          records = merged(records, await this.#records(header, offset));
          break;
        case TypeFlag.globalPax:
          this.#globals(await this.#records(header, offset), offset);
          break;
        case TypeFlag.longName:
          records = merged(records, new Map([['path', await this.#longText(header, offset)]]));
          break;
        case TypeFlag.longLink:
          records = merged(records, new Map([['linkpath', await this.#longText(header, offset)]]));
          break;
        case TypeFlag.volumeLabel:
          break;
        default:
          return this.#entry(header, merged(this.#global, records), offset);
      }
    }
  }

  async *content(): Bytes {
    while (this.#left > 0) {
      const piece = await this.#input.take(Math.min(this.#left, CHUNK));
      if (piece.byteLength === 0) throw damagedTar('unexpected end', this.#input.offset);
      this.#left -= piece.byteLength;
      yield piece;
    }
  }

  close(): Promise<void> {
    this.#ended = true;
    return this.#input.close();
  }

  async #skip(): Promise<void> {
    let size = this.#left + this.#padding;
    this.#left = 0;
    this.#padding = 0;
    while (size > 0) {
      const piece = await this.#input.take(Math.min(size, CHUNK));
      if (piece.byteLength === 0) throw damagedTar('unexpected end', this.#input.offset);
      size -= piece.byteLength;
    }
  }

  async #block(offset: number): Promise<Buffer> {
    const ready = this.#input.ready(BLOCK);
    if (ready) return Buffer.from(ready.buffer, ready.byteOffset, BLOCK);
    const block = await this.#input.exactly(BLOCK);
    if (block.byteLength === BLOCK) return block;
    // An archive that was cut between two entries looks whole but for its end mark.
    const problem = block.byteLength === 0 ? 'no end mark: the archive is cut off' : 'unexpected end';
    throw damagedTar(problem, offset);
  }

  /** Behind the end mark only zeros may follow: what else is there would be lost without a word. */
  async #end(): Promise<void> {
    this.#ended = true;
    for (;;) {
      const { offset } = this.#input;
      const piece = await this.#input.take(CHUNK);
      if (piece.byteLength === 0) return;
      if (!isZero(piece)) throw damagedTar('something behind the end mark', offset);
    }
  }

  #entry(header: TarHeader, records: PaxRecords, offset: number): ArchiveEntry {
    const name = records.get('path') || header.name;
    const target = records.get('linkpath') || header.target;
    // The oldest format has no type for directories, only the slash.
    const type = header.flag === TypeFlag.file && name.endsWith('/') ? 'directory' : ENTRY_TYPES[header.flag];
    if (!type) throw damagedTar(`entry of unsupported type '${printableFlag(header.flag)}'`, offset);
    let attributes = NO_ATTRIBUTES as Map<string, string>;
    for (const [key, value] of records) {
      if (key.startsWith('GNU.sparse.')) {
        throw damagedTar('a sparse file, which is not supported (write the tar without --sparse),', offset);
      }
      if (!key.startsWith(XATTR_KEY) || key.length === XATTR_KEY.length) continue;
      if (attributes === NO_ATTRIBUTES) attributes = new Map();
      attributes.set(key.slice(XATTR_KEY.length), value);
    }
    const number = (key: string, value: number) => numberOf(records, key, value, offset);
    const size = wholeNumber(number('size', header.size), Number.MAX_SAFE_INTEGER, 'size', offset);
    const entry: ArchiveEntry = {
      ...{ name, type, target, attributes, mode: header.mode },
      uid: wholeNumber(number('uid', header.uid), MAX_ID, 'uid', offset),
      gid: wholeNumber(number('gid', header.gid), MAX_ID, 'gid', offset),
      // Some programs put the size of a link's target there; only files have content.
      size: type === 'file' ? size : 0,
      mtime: Math.floor(number('mtime', header.mtime)),
    };
    this.#left = entry.size;
    this.#padding = paddedSize(entry.size) - entry.size;
    return entry;
  }

  #globals(records: PaxRecords, offset: number): void {
    for (const key of NOT_GLOBAL) {
      if (records.has(key)) throw damagedTar(`a '${key}' for all entries`, offset);
    }
    for (const [key, value] of records) if (GLOBAL_KEYS.has(key)) this.#global.set(key, value);
  }

  async #records(header: TarHeader, offset: number): Promise<PaxRecords> {
    return new Map(decodePax(await this.#extension(header, offset), offset + BLOCK));
  }

  async #extension({ size }: TarHeader, offset: number): Promise<Buffer> {
    if (size < 0 || size > MAX_EXTENSION) {
      throw damagedTar(`extended header of ${size} bytes, at most ${MAX_EXTENSION},`, offset);
    }
    const bytes = await this.#input.exactly(paddedSize(size));
    if (bytes.byteLength < paddedSize(size)) throw damagedTar('unexpected end', this.#input.offset);
    return bytes.subarray(0, size);
  }

  /** The content of a GNU long name: text with a NUL at its end. */
  async #longText(header: TarHeader, offset: number): Promise<string> {
    const text = rawBytes(await this.#extension(header, offset));
    const end = text.indexOf('\0');
    return end < 0 ? text : text.slice(0, end);
  }
}

/** Most entries of most archives have none: nothing is copied then. */
function merged(first: PaxRecords, second: PaxRecords): PaxRecords {
  if (first.size === 0) return second;
  if (second.size === 0) return first;
  return new Map([...first, ...second]);
}

/** A record's number where there is one; an empty record withdraws it. */
function numberOf(records: PaxRecords, key: string, otherwise: number, offset: number): number {
  const text = records.get(key);
  return text === undefined || text === '' ? otherwise : paxNumber([key, text], offset);
}

function printableFlag(flag: string): string {
  return flag >= ' ' && flag <= '~' ? flag : `\\x${flag.charCodeAt(0).toString(16).padStart(2, '0')}`;
}
