/** The sizes of a PCI function's memory windows, and the room that a card needs in its VM. Pure. */

export interface Bar {
  index: number;
  /** Bytes. */
  size: number;
  /** 64 bits wide and prefetchable: may lie above 4 GiB. */
  high: boolean;
}

/** Of linux/ioport.h. */
const MEMORY = 0x200n;
const PREFETCH = 0x2000n;
const WIDE = 0x10_0000n;
/** Lines behind these are the ROM, and the BARs of virtual functions. */
const BARS = 6;

/** sysfs' `resource`: a line `START END FLAGS` a BAR, zeros where there is none. Ports are left out. */
export function parseBars(text: string): Bar[] {
  return text.split('\n', BARS).flatMap((line, index): Bar[] => {
    const [, start, end, flags] = /^(0x[0-9a-f]+) (0x[0-9a-f]+) (0x[0-9a-f]+)$/i.exec(line.trim()) ?? [];
    if (start === undefined || end === undefined || flags === undefined) return [];
    const bits = BigInt(flags);
    if ((bits & MEMORY) === 0n || BigInt(end) <= BigInt(start)) return [];
    const size = Number(BigInt(end) - BigInt(start) + 1n);
    return [{ index, size, high: (bits & PREFETCH) !== 0n && (bits & WIDE) !== 0n }];
  });
}

/** Bytes of a root port's window above 4 GiB for these: they fit in any order, each on a multiple of its size. 0: none. */
export function windowFor(bars: readonly Bar[]): number {
  const sizes = bars.filter(({ high }) => high).map(({ size }) => size);
  if (sizes.length === 0) return 0;
  const largest = Math.max(...sizes);
  const sum = sizes.reduce((total, size) => total + size, 0);
  return Math.ceil(sum / largest) * largest;
}

const GIB = 1024 ** 3;
/** QEMU's default of q35. */
const LEAST_HOLE = 32 * GIB;

/**
 * Bytes of the whole machine's room above 4 GiB for windows of these sizes: a power of two, since the first may have to be moved
 * up to a multiple of its size. Null: QEMU's default does.
 */
export function holeFor(windows: readonly number[]): number | null {
  const sum = windows.reduce((total, size) => total + size, 0);
  const needed = sum + Math.max(0, ...windows);
  return needed <= LEAST_HOLE ? null : 2 ** Math.ceil(Math.log2(needed));
}
