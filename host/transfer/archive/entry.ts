/** What is in an archive, whatever its format. */
import type { RawName } from '../../lib/raw-name.ts';
import type { EntryType, TarHeader } from '../../lib/tar/header.ts';
import type { Bytes } from '../types.ts';

export interface ArchiveEntry extends Omit<TarHeader, 'flag' | 'major' | 'minor'> {
  /** As it is in the archive, until names are checked: then relative, without `.` parts and slashes at its ends. */
  name: RawName;
  type: EntryType;
  /** Bytes of content; 0 for all but files. */
  size: number;
  /** Where a link leads, else empty: a hard link to a name of the archive. */
  target: RawName;
  /** Extended attributes, by their names. */
  attributes: ReadonlyMap<string, RawName>;
}

export const NO_ATTRIBUTES: ReadonlyMap<string, RawName> = new Map();

/** An archive that is read, entry by entry. */
export interface EntrySource {
  /** The next entry, null at the end. Content of the one before that was not read is passed over. */
  next(): Promise<ArchiveEntry | null>;
  /** The current entry's content, once. */
  content(): Bytes;
  /** Frees what is behind it; may be called at any time, several times. */
  close(): Promise<void>;
}

/** An archive that is written: what it returns are its bytes, to be read to their end before anything else is asked. */
export interface EntrySink {
  entry(entry: ArchiveEntry, content: Bytes): Bytes;
  end(): Bytes;
  close(): Promise<void>;
}
