/** Formats of archives that the `transfer` command knows (exe-unit.md 6.7; tar.zst is ours). */
import { YavmError } from '../../lib/errors.ts';

export type ArchiveFormat = 'tar' | 'tar.gz' | 'tar.bz2' | 'tar.xz' | 'tar.zst' | 'zip' | 'zip.0';

/** What is around a tar. */
export type Compression = 'none' | 'gzip' | 'bzip2' | 'xz' | 'zstd';

/** How a format is made: a tar in a compression, or a zip whose files are stored or deflated. */
export type Layout = { kind: 'tar'; compression: Compression } | { kind: 'zip'; stored: boolean };

const LAYOUTS: Readonly<Record<ArchiveFormat, Layout>> = {
  tar: { kind: 'tar', compression: 'none' },
  'tar.gz': { kind: 'tar', compression: 'gzip' },
  'tar.bz2': { kind: 'tar', compression: 'bzip2' },
  'tar.xz': { kind: 'tar', compression: 'xz' },
  'tar.zst': { kind: 'tar', compression: 'zstd' },
  zip: { kind: 'zip', stored: false },
  'zip.0': { kind: 'zip', stored: true },
};

/** All of them, for messages, offers and tests. */
export const ARCHIVE_FORMATS = Object.keys(LAYOUTS) as readonly ArchiveFormat[];

/** Characters of an unknown format that a message repeats. */
const SHOWN = 40;

/** A script's `format`. @throws {YavmError} YAVM_E_TRANSFER_FORMAT */
export function parseArchiveFormat(text: string): ArchiveFormat {
  if (Object.hasOwn(LAYOUTS, text)) return text as ArchiveFormat;
  throw new YavmError(
    'YAVM_E_TRANSFER_FORMAT',
    `format ${JSON.stringify(text.slice(0, SHOWN))} is none that a transfer knows`,
    { hint: `Supported are ${ARCHIVE_FORMATS.join(', ')}.` },
  );
}

export function layoutOf(format: ArchiveFormat): Layout {
  return LAYOUTS[format];
}
