/** Disks by their virtio-blk serial, which is the only name that the host and the guest share. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import { sleep } from '../lib/sleep.ts';

const SYSFS_BLOCK = '/sys/class/block';
/** VIRTIO_BLK_ID_BYTES: a serial has at most this many bytes. */
const MAX_SERIAL = 20;
/** virtio-blk disks are `vd…`; their partitions have no serial. */
const PREFIX = 'vd';
/** A disk that is plugged in while the VM runs appears 0.2–0.4 s later under emulation (PCI hot-plug). */
export const DISK_DEADLINE = 10_000;
const POLL_INTERVAL = 5;

/** Disks that have been asked for, by serial: the path of the device. */
export type Disks = Map<string, string>;

/**
 * Waits until every serial is there. Slots without a disk hold placeholders of one sector; they are never touched.
 * @throws {GuestError} disk-missing, naming the serials that are missing and those that are there
 */
export function findDisks(native: Native, serials: string[]): Promise<Disks> {
  return findDisksWith(native, serials, SYSFS_BLOCK, DISK_DEADLINE);
}

/** {@link findDisks} with the sysfs folder, and the deadline in milliseconds. */
export async function findDisksWith(
  native: Native,
  serials: string[],
  sysfs: string,
  milliseconds: number,
): Promise<Disks> {
  const wanted = new Set(serials);
  const start = native.monotonic();
  for (;;) {
    const found = scanDisks(native, sysfs, wanted);
    const missing = serials.filter((serial) => !found.has(serial));
    if (missing.length === 0) return found;
    if (native.monotonic() - start >= milliseconds) {
      const there = [...scanDisks(native, sysfs, null).keys()].map((serial) => `'${serial}'`).join(', ');
      throw new GuestError(
        'disk-missing',
        `no disk with serial ${missing.map((serial) => `'${serial}'`).join(', ')} appeared in ${milliseconds} ms; there: ${there || 'none'}`,
        { path: sysfs },
      );
    }
    await sleep(POLL_INTERVAL);
  }
}

/**
 * Looks once. With `wanted`, stops as soon as all are found: reading a serial is a request to the device, and the
 * configured disks come before the placeholders.
 */
function scanDisks(native: Native, sysfs: string, wanted: Set<string> | null): Disks {
  const found: Disks = new Map();
  let fd: number;
  try {
    fd = native.open(sysfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  } catch (error) {
    throw fromNative('disk-missing', 'cannot list the disks', error);
  }
  try {
    for (const name of diskNames(native, fd)) {
      if (wanted && found.size === wanted.size) break;
      const serial = readSerial(native, `${sysfs}/${name}`);
      if (serial === '' || found.has(serial) || (wanted && !wanted.has(serial))) continue;
      found.set(serial, `/dev/${name}`);
    }
    return found;
  } finally {
    native.close(fd);
  }
}

/** In the kernel's order of discovery: vda … vdz, vdaa …; sysfs lists them by hash. */
function diskNames(native: Native, sysfsFd: number): string[] {
  const names = native
    .readDirectory(sysfsFd)
    .map(({ name }) => name)
    .filter((name) => name.startsWith(PREFIX));
  return names.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
}

/** A disk's serial; empty when it has none, is a partition, or went away meanwhile. */
function readSerial(native: Native, disk: string): string {
  try {
    // By its path: the entry is a link out of this folder, which a lookup beneath it would not follow.
    return native.readText(-1, `${disk}/serial`, MAX_SERIAL + 1).trim();
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'EIO') || hasErrno(error, 'ENODEV')) return '';
    throw fromNative('disk-missing', `cannot read the serial of '${disk}'`, error);
  }
}
