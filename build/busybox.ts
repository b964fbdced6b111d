/** Debian's static busybox: the demo image's programs and the floor's shell. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fetchPackage } from '../initramfs/kernel/package-cache.ts';
import { PACKAGE_CACHE } from './kernel.ts';

/** Path of the binary, unpacked in the cache; nothing is installed. @throws {PackageError} */
export async function fetchBusybox(
  cache = PACKAGE_CACHE,
  onProgress?: (line: string) => void,
): Promise<string> {
  const { folder } = await fetchPackage({ folder: cache, onProgress }, 'busybox-static');
  // Debian 12 has it in /bin, Debian 13 in /usr/bin.
  const places = ['usr/bin/busybox', 'bin/busybox'].map((path) => join(folder, path));
  return places.find((path) => existsSync(path)) ?? (places[0] as string);
}
