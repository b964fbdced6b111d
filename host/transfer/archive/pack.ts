/** From a directory of the VM to an archive. */
import type { RawName } from '../../lib/raw-name.ts';
import type { Bytes } from '../types.ts';
import type { ArchiveEntry, EntrySink } from './entry.ts';
import { archiveError } from './errors.ts';
import type { Fileset } from './fileset.ts';
import { type ArchiveFormat, type Compression, layoutOf } from './format.ts';
import { checkedName, isSpecial } from './guard.ts';
import { type ArchiveLimits, DEFAULT_LIMITS } from './limits.ts';
import { shownName } from './names.ts';
import { COMPRESS, filtered } from './program.ts';
import { Selection } from './selection.ts';
import { abortable, gathered, Pace } from './stream.ts';
import { TarReader } from './tar-reader.ts';
import { TarWriter } from './tar-writer.ts';
import { ZipWriter } from './zip-writer.ts';
import { compress } from './zlib.ts';

export interface ArchiveOptions {
  format: ArchiveFormat;
  /** Directories within each other that are entered: 0 is the directory alone. Default: all. */
  depth?: number;
  /** Default: everything. */
  fileset?: Fileset;
  signal: AbortSignal;
  /** Where a zip waits, in files without names. On a disk: it may be large. */
  tempFolder: string;
  limits?: Partial<ArchiveLimits>;
}

/** What a header is worth in bytes moved: it takes about as long. */
export const ENTRY_WORK = 2048;

/**
 * The archive of a directory, from the tar that the guest's files role makes of its content (names begin with `./`; or with
 * the directory's own, which is left away). Names are relative to the directory; the directory itself is no entry. Order,
 * owners, modes, times, links and attributes stay; devices and named pipes have no place in an archive, as sockets.
 * Of the limits only those of names and memory, and for zips the number of entries, count: what the task has made is wanted.
 * @throws {YavmError} YAVM_E_ARCHIVE, YAVM_E_ARCHIVE_LIMIT, YAVM_E_ARCHIVE_SPOOL, YAVM_E_COMPRESSOR,
 * YAVM_E_COMPRESSOR_MISSING, YAVM_E_TRANSFER_FORMAT; what the tar throws; the signal's reason
 */
export async function* packArchive(tar: Bytes, options: ArchiveOptions): Bytes {
  const { signal } = options;
  const layout = layoutOf(options.format);
  const packed = gathered(packEntries(tar, options));
  const compression = layout.kind === 'tar' ? layout.compression : 'none';
  yield* abortable(compressed(packed, compression, signal), signal);
}

async function* packEntries(tar: Bytes, options: ArchiveOptions): Bytes {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const selection = new Selection(options.fileset, options.depth, limits.memory);
  const source = new TarReader(abortable(tar, options.signal));
  let sink: EntrySink | undefined;
  try {
    sink = await sinkFor(options, limits);
    const top = new Top(limits);
    const pace = new Pace();
    for (let next = await source.next(); next; next = await source.next()) {
      const entry = top.relative(next);
      const wanted = entry && !isSpecial(entry.type) ? selection.select(entry) : [];
      for (const chosen of wanted) yield* sink.entry(chosen, source.content());
      await pace.spend(ENTRY_WORK + next.size + selection.work(next.name));
    }
    yield* sink.end();
  } finally {
    await source.close();
    await sink?.close();
  }
}

async function sinkFor(
  { format, tempFolder, signal }: ArchiveOptions,
  limits: ArchiveLimits,
): Promise<EntrySink> {
  const layout = layoutOf(format);
  if (layout.kind === 'tar') return new TarWriter();
  return await ZipWriter.create({ stored: layout.stored, tempFolder, limits, signal });
}

function compressed(bytes: Bytes, compression: Compression, signal: AbortSignal): Bytes {
  switch (compression) {
    case 'none':
      return bytes;
    case 'gzip':
    case 'zstd':
      return compress(compression, bytes, signal);
    default:
      return filtered(COMPRESS[compression], bytes, { signal });
  }
}

/** Makes names relative to the first entry, which is the directory itself. */
class Top {
  readonly #limits: ArchiveLimits;
  /** The directory's own name, with a slash; empty for `.`; null before the first entry. */
  #prefix: RawName | null = null;

  constructor(limits: ArchiveLimits) {
    this.#limits = limits;
  }

  /** Null for the directory itself. */
  relative(entry: ArchiveEntry): ArchiveEntry | null {
    const name = checkedName(entry.name, this.#limits);
    if (this.#prefix === null) {
      const isTop = entry.type === 'directory' && !name.includes('/');
      this.#prefix = isTop && name !== '' ? `${name}/` : '';
      if (isTop) return null;
    }
    if (`${name}/` === this.#prefix || name === '') return null;
    const target =
      entry.type === 'hardlink' ? this.#cut(checkedName(entry.target, this.#limits)) : entry.target;
    return { ...entry, name: this.#cut(name), target };
  }

  #cut(name: RawName): RawName {
    const prefix = this.#prefix ?? '';
    if (!name.startsWith(prefix)) throw archiveError(`${shownName(name)} is not in the directory`);
    return name.slice(prefix.length);
  }
}
