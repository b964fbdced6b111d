/** Writes a POSIX tar. */
import { isText } from '../../lib/raw-name.ts';
import { BLOCK, encodeEntry, paddedSize, TypeFlag } from '../../lib/tar/header.ts';
import { type PaxRecord, XATTR_KEY } from '../../lib/tar/pax.ts';
import type { Bytes } from '../types.ts';
import type { ArchiveEntry, EntrySink } from './entry.ts';
import { archiveError } from './errors.ts';
import { shownName } from './names.ts';

/** An archive ends with two blocks of zeros. */
const END = Buffer.alloc(2 * BLOCK);

export class TarWriter implements EntrySink {
  async *entry(entry: ArchiveEntry, content: Bytes): Bytes {
    yield headerOf(entry);
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

function headerOf(entry: ArchiveEntry): Buffer {
  const name = entry.type === 'directory' ? `${entry.name}/` : entry.name;
  const header = { ...entry, name, flag: TypeFlag[entry.type], major: 0, minor: 0 };
  const records: PaxRecord[] = [];
  // POSIX's word for names that are no UTF-8: take them as they are.
  if (!isText(name) || !isText(entry.target)) records.push(['hdrcharset', 'BINARY']);
  for (const [key, value] of entry.attributes) records.push([XATTR_KEY + key, value]);
  return encodeEntry(header, records);
}
