/** How an image can be compressed: what the kernel mounts and mksquashfs makes. */
import { YavmError } from '../../lib/errors.ts';
import type { Compressor } from '../squashfs.ts';

export type Packer = Exclude<Compressor, 'lzma'>;

interface Row {
  /** Least and greatest level; null: it has none. */
  levels: readonly [least: number, most: number] | null;
  /** mksquashfs's own words for a level. */
  words(level: number): string[];
}

const byLevel = (level: number) => ['-Xcompression-level', String(level)];

/**
 * Why zstd 9: of 392 MiB of programs, libraries and sources on 2 cores zstd 9 made 144 MB in 6.9 s, lzo (upstream's
 * default) 162 MB in 36.9 s, gzip 148 MB in 36.6 s, xz 123 MB in 83 s, lz4 210 MB in 0.7 s; a guest under TCG read all of
 * it in 7.6 to 9.9 s, lzo in 7.4, lz4 in 5.4, gzip in 14.9. Every kernel that boots our VMs has it.
 */
export const DEFAULT_PACKER: { compressor: Packer; level: number } = { compressor: 'zstd', level: 9 };
/** For an image that is built to be run here, once: 155 MB in 2.1 s. */
export const QUICK_PACKER: { compressor: Packer; level: number } = { compressor: 'zstd', level: 3 };

const ROWS: Readonly<Record<Packer, Row>> = {
  gzip: { levels: [1, 9], words: byLevel },
  lzo: { levels: [1, 9], words: byLevel },
  // Two forms of one compression: the fast one, and the thorough one.
  lz4: { levels: [1, 2], words: (level) => (level === 2 ? ['-Xhc'] : []) },
  xz: { levels: null, words: () => [] },
  zstd: { levels: [1, 22], words: byLevel },
};

export const PACKERS = Object.keys(ROWS) as Packer[];

/** mksquashfs's words for a compressor. @throws {YavmError} YAVM_E_USAGE: it has no such level */
export function packerWords(compressor: Packer, level?: number): string[] {
  const { levels, words } = ROWS[compressor];
  const words0 = ['-comp', compressor];
  if (level === undefined) return words0;
  if (levels === null)
    throw new YavmError('YAVM_E_USAGE', `${compressor} has no levels`, { hint: 'Leave out --level.' });
  const [least, most] = levels;
  if (level >= least && level <= most) return [...words0, ...words(level)];
  throw new YavmError('YAVM_E_USAGE', `${compressor} has no level ${level}, but ${least} to ${most}`);
}
