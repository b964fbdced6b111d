/** A tar archive as a sequence of entries: extended headers are read and applied, everything is bounded. */
import type { Native } from '../../native/face.ts';
import { type Attribute, NO_ATTRIBUTES } from './attributes.ts';
import type { ByteInput } from './byte-input.ts';
import { badArchive, decodePax, type PaxRecords } from './pax.ts';
import {
  BLOCK,
  decodeHeader,
  type Entry,
  type EntryType,
  paddedSize,
  type RawHeader,
  TypeFlag,
} from './tar-header.ts';

/** Largest extended header, bytes. Paths have at most 4096; the rest is room for attributes. */
const MAX_EXTENSION = 64 * 1024;
/** Largest uid or gid: 2³²−1 means "no change" to the kernel. */
const MAX_ID = 0xfffffffe;
/** Majors and minors have 32 bits at most. */
const MAX_DEVICE = 0xffffffff;

const TYPES: Record<string, EntryType> = {
  [TypeFlag.file]: 'file',
  [TypeFlag.contiguous]: 'file',
  [TypeFlag.hardLink]: 'hardLink',
  [TypeFlag.symlink]: 'symlink',
  [TypeFlag.character]: 'character',
  [TypeFlag.block]: 'block',
  [TypeFlag.directory]: 'directory',
  [TypeFlag.fifo]: 'fifo',
};

/** Global records that are taken over; names and sizes of a global header would make no sense. */
const GLOBAL_KEYS = new Set(['uid', 'gid', 'mtime']);

const NO_RECORDS: PaxRecords = new Map();

/** Content up to this many bytes can be had in one piece. */
const SMALL = 64 * 1024;

export class TarInput {
  readonly #native: Native;
  readonly #input: ByteInput;
  readonly #global: PaxRecords = new Map();
  /** Content of the current entry that was not handed out, and its padding. */
  #left = 0;
  #padding = 0;

  constructor(native: Native, input: ByteInput) {
    this.#native = native;
    this.#input = input;
  }

  /** The next entry; null at the archive's end. @throws {GuestError} bad-archive */
  next(): Entry | null {
    this.#skip();
    let records = NO_RECORDS;
    let attributes = NO_ATTRIBUTES;
    for (;;) {
      const offset = this.#input.offset;
      const at = this.#input.reserve(BLOCK);
      // An archive that was cut between two entries looks whole but for its end mark.
      if (at < 0) throw badArchive('no end mark: the archive is cut off', offset);
      const header = decodeHeader(this.#native, this.#input.buffer, at, offset);
      if (!header) return null;
      switch (header.flag) {
        case TypeFlag.pax: {
          const found: Attribute[] = [...attributes];
          records = merged(records, this.#records(header, offset, found));
          attributes = found;
          break;
        }
        case TypeFlag.globalPax:
          for (const [key, value] of this.#records(header, offset)) {
            if (GLOBAL_KEYS.has(key)) this.#global.set(key, value);
          }
          break;
        case TypeFlag.longName:
          records = merged(records, new Map([['path', this.#longText(header, offset)]]));
          break;
        case TypeFlag.longLink:
          records = merged(records, new Map([['linkpath', this.#longText(header, offset)]]));
          break;
        case TypeFlag.volumeLabel:
          break;
        default:
          return this.#entry(header, merged(this.#global, records), attributes, offset);
      }
    }
  }

  /** Hands the current entry's content to `sink`, once. @throws {GuestError} bad-archive */
  content(sink: (piece: Uint8Array) => void): void {
    const size = this.#left;
    this.#left = 0;
    this.#input.copy(size, sink);
  }

  /**
   * The current entry's content in one piece, valid until the next call, instead of {@link content}; null when it is large.
   * @throws {GuestError} bad-archive
   */
  smallContent(): Uint8Array | null {
    const size = this.#left;
    if (size > SMALL) return null;
    this.#left = 0;
    const at = this.#input.reserve(size);
    if (at < 0) throw badArchive('unexpected end', this.#input.offset);
    return this.#input.buffer.subarray(at, at + size);
  }

  /**
   * Unpacks the small files that come next in the directory `dirFd`, which the archive calls `directory`, as long as there is
   * nothing else to them; returns how many.
   */
  putFiles(dirFd: number, directory: string): number {
    this.#skip();
    if (this.#global.size > 0) return 0;
    const [entries, bytes] = this.#native.putTarFiles(dirFd, directory, this.#input.waiting);
    if (entries > 0) this.#input.skip(bytes);
    return entries;
  }

  #records(header: RawHeader, offset: number, attributes?: Attribute[]): PaxRecords {
    return decodePax(this.#native, this.#extension(header, offset), offset + BLOCK, attributes);
  }

  #entry(header: RawHeader, records: PaxRecords, attributes: readonly Attribute[], offset: number): Entry {
    const name = records.get('path') ?? header.name;
    // The oldest format has no type for directories, only the slash.
    const type = header.flag === TypeFlag.file && name.endsWith('/') ? 'directory' : TYPES[header.flag];
    if (!type) throw badArchive(`entry of unsupported type '${printable(header.flag)}'`, offset);
    for (const key of records.keys()) {
      if (key.startsWith('GNU.sparse.')) throw badArchive('sparse file, which is not supported', offset);
    }
    const number = (key: string, value: number) => numberOf(records, key, value, offset);
    const size = wholeNumber(number('size', header.size), Number.MAX_SAFE_INTEGER, 'size', offset);
    const entry: Entry = {
      name,
      type,
      mode: header.mode,
      uid: wholeNumber(number('uid', header.uid), MAX_ID, 'uid', offset),
      gid: wholeNumber(number('gid', header.gid), MAX_ID, 'gid', offset),
      // Some programs put the size of a link's target there; only files have content.
      size: type === 'file' ? size : 0,
      mtime: number('mtime', header.mtime),
      linkName: records.get('linkpath') ?? header.linkName,
      major: wholeNumber(header.major, MAX_DEVICE, 'device number', offset),
      minor: wholeNumber(header.minor, MAX_DEVICE, 'device number', offset),
      attributes,
    };
    this.#left = entry.size;
    this.#padding = paddedSize(entry.size) - entry.size;
    return entry;
  }

  #skip(): void {
    this.#input.copy(this.#left + this.#padding, () => {});
    this.#left = 0;
    this.#padding = 0;
  }

  #extension({ size }: RawHeader, offset: number): Uint8Array {
    if (size < 0 || size > MAX_EXTENSION) {
      throw badArchive(`extended header of ${size} bytes, at most ${MAX_EXTENSION},`, offset);
    }
    const at = this.#input.reserve(paddedSize(size));
    if (at < 0) throw badArchive('unexpected end', this.#input.offset);
    return this.#input.buffer.slice(at, at + size);
  }

  /** The content of a GNU long name: text with a NUL at its end. */
  #longText(header: RawHeader, offset: number): string {
    const bytes = this.#extension(header, offset);
    const end = bytes.indexOf(0);
    return this.#native.decodeName(end < 0 ? bytes : bytes.subarray(0, end));
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
  if (text === undefined || text === '') return otherwise;
  const value = /^-?\d{1,16}(\.\d{1,32})?$/.test(text) ? Number(text) : Number.NaN;
  if (!(Math.abs(value) <= Number.MAX_SAFE_INTEGER)) {
    throw badArchive(`'${key}' is no number we can hold`, offset);
  }
  return value;
}

function wholeNumber(value: number, most: number, what: string, offset: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw badArchive(`${what} ${value} is out of range`, offset);
}

function printable(flag: string): string {
  return flag >= ' ' && flag <= '~' ? flag : `\\x${flag.charCodeAt(0).toString(16).padStart(2, '0')}`;
}
