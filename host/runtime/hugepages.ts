/**
 * A VM's memory in huge pages that the host has set aside (hugetlb). They come through memfd_create(2), which takes no mount
 * and no right of QEMU's user; Documentation/admin-guide/mm/hugetlbpage.rst has the counters.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { YavmError } from '../lib/errors.ts';
import type { HugepageSize, VmSpec } from './types.ts';

export const HUGEPAGE_SIZES: Readonly<Record<HugepageSize, number>> = { '2M': 2, '1G': 1024 };

/** Milliseconds for a GiB of pages that are zeroed by one slow thread, as QEMU touches all before the guest runs. */
const TOUCHING = 2000;

/** What that adds to the deadline of a boot, milliseconds. */
export function touchingTime({ hugepages, memoryMiB }: Pick<VmSpec, 'hugepages' | 'memoryMiB'>): number {
  return hugepages === undefined ? 0 : Math.ceil((TOUCHING * memoryMiB) / 1024);
}

interface Pool {
  /** Pages in all, and those that no one has or was promised. */
  total: number;
  free: number;
}

/** The same VM with memory of whole pages: not more than was asked for, and the host has no other. @throws {YavmError} YAVM_E_HUGEPAGES */
export function wholePages<Spec extends Pick<VmSpec, 'memoryMiB' | 'hugepages'>>(spec: Spec): Spec {
  const { hugepages, memoryMiB } = spec;
  if (hugepages === undefined) return spec;
  const page = HUGEPAGE_SIZES[hugepages];
  const whole = Math.floor(memoryMiB / page) * page;
  if (whole > 0) return { ...spec, memoryMiB: whole };
  throw new YavmError(
    'YAVM_E_HUGEPAGES',
    `${memoryMiB} MiB of memory are less than a huge page of ${hugepages}`,
    {
      hint: 'Choose more memory, or --hugepages 2M.',
    },
  );
}

/**
 * Before QEMU says it in its own words. Another VM may take the pages between this look and QEMU's: then QEMU does not start.
 * @param sys Where sysfs is.
 * @throws {YavmError} YAVM_E_HUGEPAGES
 */
export function checkHugepages(size: HugepageSize, memoryMiB: number, sys = '/sys'): void {
  const page = HUGEPAGE_SIZES[size];
  const fail = (message: string, hint: string): never => {
    throw new YavmError('YAVM_E_HUGEPAGES', message, { hint });
  };
  const folder = join(sys, `kernel/mm/hugepages/hugepages-${page * 1024}kB`);
  const pool = readPool(folder);
  if (pool === null)
    fail(
      `this host has no huge pages of ${size}`,
      'Choose the other size, or none: the processor or the kernel lacks it.',
    );
  const { total, free } = pool as Pool;
  const needed = Math.ceil(memoryMiB / page);
  if (free >= needed) return;
  const wanted = total + needed - free;
  const now = `echo ${wanted} | sudo tee ${folder}/nr_hugepages`;
  const boot = `hugepagesz=${size} hugepages=${wanted} among the kernel's words`;
  fail(
    `${needed} free huge pages of ${size} are needed, and the host has ${free} of ${total}`,
    // Whole gibibytes are hardly ever found in one piece later.
    size === '1G' ? `${boot}; or at once, if there is room: ${now}` : `${now}; for good: ${boot}`,
  );
}

/** Null: the host has no pages of this size. */
function readPool(folder: string): Pool | null {
  const number = (name: string) => {
    try {
      const value = Number(readFileSync(join(folder, name), 'latin1').trim());
      return Number.isSafeInteger(value) && value >= 0 ? value : null;
    } catch {
      return null;
    }
  };
  const [total, free, reserved] = [
    number('nr_hugepages'),
    number('free_hugepages'),
    number('resv_hugepages'),
  ];
  if (total === null || free === null) return null;
  return { total, free: Math.max(0, free - (reserved ?? 0)) };
}
