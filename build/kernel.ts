/** The kernel that VMs boot: Debian's cloud flavour, downloaded through apt and not installed. */
import { join } from 'node:path';
import { DEFAULT_KERNEL_PACKAGE, fetchKernelPackage, type KernelSource } from '../initramfs/kernel/source.ts';

/** Unpacked Debian packages; survives `make clean`. */
export const PACKAGE_CACHE = join(import.meta.dirname, 'cache', 'packages');

/**
 * The kernel package, unpacked in the cache: fetched when apt's lists name a version that is not there.
 * @throws {PackageError} apt knows no such package and the cache has none, or the download is damaged.
 */
export function fetchKernel(
  onProgress?: (line: string) => void,
  spec: string = DEFAULT_KERNEL_PACKAGE,
  cache: string = PACKAGE_CACHE,
): Promise<KernelSource> {
  return fetchKernelPackage({ folder: cache, onProgress }, spec);
}
