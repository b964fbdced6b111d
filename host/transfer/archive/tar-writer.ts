/** Writes a POSIX tar. */
import type { Bytes } from '../types.ts';
import type { ArchiveEntry, EntrySink } from './entry.ts';
import { archiveError } from './errors.ts';
import { shownName } from './names.ts';
import { BLOCK, encodeEntry, paddedSize } from './tar-header.ts';

/** An archive ends with two blocks of zeros. */
const END = Buffer.alloc(2 * BLOCK);

export class TarWriter implements EntrySink {
  async *entry(entry: ArchiveEntry, content: Bytes): Bytes {
    yield encodeEntry(entry);
    if (entry.type !== 'file' || entry.size === 0) return;
    let left = entry.size;
    for await (const piece of content) {
      left -= piece.byteLength;
      if (left < 0) break;
      yield piece;
    }
    if (left !== 0) throw archiveError(`${shownName(entry.name)} has not the size that it says`);
    const padding = paddedSize(entry.size) - entry.size;
    if (padding > 0) yield END.subarray(0, padding);
  }

  async *end(): Bytes {
    yield END;
  }

  async close(): Promise<void> {}
}
