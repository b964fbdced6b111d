/** What a file is that is to be booted: an initramfs, or anything that a task's image is made from. */
import { closeSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';

/** Beginnings of a cpio archive that a kernel unpacks; with checksums the second. */
const CPIO = ['070701', '070702'];
/** `rootfs.cpio.gz`, `initramfs-6.1.img`, `initrd.img-6.1.0`. Of packed ones only the name tells, a tar is packed alike. */
const NAMES = /\.cpio(\.[a-z0-9]+)?$|^initr(amfs|d)\b/i;

/** @param path As it was given; a source with a scheme (`oci:…`) is no file, and so no initramfs. */
export function isInitramfs(path: string): boolean {
  const first = beginning(path);
  if (first === null) return false;
  return CPIO.includes(first) || (NAMES.test(basename(path)) && first.slice(0, 4) !== 'hsqs');
}

/** The first six bytes; null when it is not a file that can be read. */
function beginning(path: string): string | null {
  try {
    const fd = openSync(path, 'r');
    try {
      const bytes = Buffer.alloc(6);
      readSync(fd, bytes, 0, 6, 0);
      return bytes.toString('latin1');
    } finally {
      closeSync(fd);
    }
  } catch {
    return null;
  }
}
