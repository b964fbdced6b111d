/** Finds and opens the three virtio-serial ports by their names. */
import type { Native } from '../../native/face.ts';
import { O_CLOEXEC, O_DIRECTORY, O_NONBLOCK, O_RDONLY, O_RDWR } from '../lib/constants.ts';
import { sleep } from '../lib/sleep.ts';
import { PORTS } from '../protocol/messages.ts';

/** sysfs folder of virtio-serial ports; each has a file `name`. */
const SYSFS_PORTS = '/sys/class/virtio-ports';
/** The driver learns the ports' names from the device one message at a time, after its probe has returned. */
const PORTS_DEADLINE = 10_000;
const POLL_INTERVAL = 1;

export type PortName = keyof typeof PORTS;

/** Opens all three ports; each can be opened only once. @throws Error when they have not appeared in 10 s */
export async function openPorts(native: Native): Promise<Record<PortName, number>> {
  const names = Object.keys(PORTS) as PortName[];
  const deadline = native.monotonic() + PORTS_DEADLINE;
  for (;;) {
    const devices = findPorts(native, SYSFS_PORTS);
    if (names.every((name) => devices.has(PORTS[name]))) {
      const open = (name: PortName) =>
        native.open(`/dev/${devices.get(PORTS[name])}`, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
      return { control: open('control'), data: open('data'), log: open('log') };
    }
    if (native.monotonic() > deadline) {
      throw new Error(
        `virtio-serial ports ${names.map((n) => PORTS[n]).join(', ')} did not appear; found: ${[...devices.keys()].join(', ') || 'none'}`,
      );
    }
    await sleep(POLL_INTERVAL);
  }
}

/** Port name → device name (`vport0p1`), as far as sysfs knows them now. */
export function findPorts(native: Native, sysfs: string): Map<string, string> {
  const found = new Map<string, string>();
  let fd: number;
  try {
    fd = native.open(sysfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  } catch {
    return found;
  }
  try {
    for (const { name: device } of native.readDirectory(fd)) {
      if (device.startsWith('.')) continue;
      try {
        const name = native.readText(-1, `${sysfs}/${device}/name`, 128).trim();
        if (name !== '') found.set(name, device);
      } catch {
        // The port has no name yet.
      }
    }
  } finally {
    native.close(fd);
  }
  return found;
}
