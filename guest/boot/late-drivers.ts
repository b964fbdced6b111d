/**
 * Drivers that are loaded, and bound to their devices later: between a snapshot and what is made of it, the host changes what
 * is behind the virtio devices, which it may as long as no driver has looked at them.
 */
import type { Native } from '../../native/face.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';

const SYSFS = '/sys';
/** A PCI function that is a virtio device has it as a folder `virtioN` (virtio.c: dev_set_name). */
const VIRTIO = /^virtio\d+$/;

/** From now on drivers leave the virtio devices alone. @throws {GuestError} module-failed */
export function holdDrivers(native: Native, sysfs = SYSFS): void {
  autoprobe(native, sysfs, '0');
}

/**
 * Has the drivers take the devices in `slots` (PCI device numbers; all devices, when absent), and from now on each that comes.
 * A slot without a device, or without a driver, is left as it is: whoever needs the device will miss it by name.
 * @throws {GuestError} module-failed
 */
export function bindDevices(native: Native, slots: readonly number[] | undefined, sysfs = SYSFS): void {
  const names =
    slots === undefined
      ? namesIn(native, `${sysfs}/bus/virtio/devices`)
      : slots.flatMap((slot) => namesIn(native, `${sysfs}/bus/pci/devices/${pciName(slot)}`));
  for (const name of names) {
    try {
      native.writeText(-1, `${sysfs}/bus/virtio/drivers_probe`, name);
    } catch (error) {
      // EINVAL: no driver wants it, or it is gone.
      if (!hasErrno(error, 'EINVAL') && !hasErrno(error, 'ENODEV'))
        throw fromNative('module-failed', `no driver takes the device '${name}'`, error);
    }
  }
  autoprobe(native, sysfs, '1');
}

/** `0000:00:08.0`, as sysfs names a device of the first bus. */
function pciName(slot: number): string {
  return `0000:00:${slot.toString(16).padStart(2, '0')}.0`;
}

function autoprobe(native: Native, sysfs: string, value: '0' | '1'): void {
  try {
    native.writeText(-1, `${sysfs}/bus/virtio/drivers_autoprobe`, value);
  } catch (error) {
    throw fromNative(
      'module-failed',
      `drivers of virtio devices cannot be ${value === '0' ? 'held back' : 'let go'}`,
      error,
    );
  }
}

/** The virtio devices in a folder, as they are numbered; none where there is no such folder. */
function namesIn(native: Native, folder: string): string[] {
  let fd: number;
  try {
    fd = native.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw fromNative('module-failed', 'devices cannot be listed', error);
  }
  try {
    const names = native.readDirectory(fd).map(({ name }) => name);
    return names.filter((name) => VIRTIO.test(name)).sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  } finally {
    native.close(fd);
  }
}
