/** From an archive to a directory of the VM. */
import type { Bytes } from '../types.ts';
import type { ArchiveEntry, EntrySource } from './entry.ts';
import { type Compression, layoutOf } from './format.ts';
import { checkedName, Guard } from './guard.ts';
import { type ArchiveLimits, DEFAULT_LIMITS, Meter } from './limits.ts';
import { type ArchiveOptions, ENTRY_WORK } from './pack.ts';
import { DECOMPRESS, filtered } from './program.ts';
import { Selection } from './selection.ts';
import { abortable, gathered, Pace } from './stream.ts';
import { TarReader } from './tar-reader.ts';
import { TarWriter } from './tar-writer.ts';
import { ZipReader } from './zip-reader.ts';
import { decompress } from './zlib.ts';

/**
 * A tar for the guest's files role, of everything in the archive that is wanted, and safe to extract: what would leave
 * the directory, what is no file, directory or link, and what is too much, is refused (guard.ts, limits.ts). Modes and
 * owners are the archive's. What came before a refusal has been handed out by then.
 * @throws {YavmError} YAVM_E_ARCHIVE, YAVM_E_ARCHIVE_LIMIT, YAVM_E_ARCHIVE_SPOOL, YAVM_E_COMPRESSOR,
 * YAVM_E_COMPRESSOR_MISSING, YAVM_E_TRANSFER_FORMAT; what the archive's bytes throw; the signal's reason
 */
export async function* unpackArchive(archive: Bytes, options: ArchiveOptions): Bytes {
  yield* abortable(gathered(unpackEntries(archive, options)), options.signal);
}

async function* unpackEntries(archive: Bytes, options: ArchiveOptions): Bytes {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const meter = new Meter(limits);
  const selection = new Selection(options.fileset, options.depth, limits.memory);
  const guard = new Guard(limits);
  const sink = new TarWriter();
  const source = await sourceOf(abortable(archive, options.signal), options, limits, meter);
  try {
    const pace = new Pace();
    for (let next = await source.next(); next; next = await source.next()) {
      meter.entry();
      const entry = checked(next, limits);
      // The directory itself is not the archive's to change.
      for (const chosen of entry ? selection.select(entry) : []) {
        guard.check(chosen);
        yield* sink.entry(chosen, source.content());
      }
      await pace.spend(ENTRY_WORK + next.size + selection.work(next.name));
    }
    yield* sink.end();
  } finally {
    await source.close();
  }
}

function checked(entry: ArchiveEntry, limits: ArchiveLimits): ArchiveEntry | null {
  const name = checkedName(entry.name, limits);
  const target = entry.type === 'hardlink' ? checkedName(entry.target, limits) : entry.target;
  return name === '' ? null : { ...entry, name, target };
}

async function sourceOf(
  archive: Bytes,
  { format, tempFolder, signal }: ArchiveOptions,
  limits: ArchiveLimits,
  meter: Meter,
): Promise<EntrySource> {
  const layout = layoutOf(format);
  if (layout.kind === 'zip') return await ZipReader.open(archive, { tempFolder, limits, meter, signal });
  const packed = counted(archive, (bytes) => meter.packed(bytes));
  const tar = decompressed(packed, layout.compression, signal);
  return new TarReader(counted(tar, (bytes) => meter.unpacked(bytes)));
}

function decompressed(bytes: Bytes, compression: Compression, signal: AbortSignal): Bytes {
  switch (compression) {
    case 'none':
      return bytes;
    case 'gzip':
    case 'zstd':
      return decompress(compression, bytes, signal);
    default:
      return filtered(DECOMPRESS[compression], bytes, { signal });
  }
}

async function* counted(bytes: Bytes, count: (bytes: number) => void): Bytes {
  for await (const piece of bytes) {
    count(piece.byteLength);
    yield piece;
  }
}
