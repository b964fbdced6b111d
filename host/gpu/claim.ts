/**
 * A card is one VM's at a time. The lock is on its folder in sysfs: there is one whoever looks, nothing has to be made, and
 * nothing is left behind. QEMU gets the open file and holds the lock as long as it lives, whatever becomes of us.
 */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { HOST, type HostRoots } from './sysfs.ts';

export type Locker = Pick<Native, 'flock'>;

/** @returns the open lock, to be handed on or closed; null when another holds it, or the card is gone. */
export function claimCard({ sys }: HostRoots, slot: string, locker: Locker): number | null {
  let fd: number;
  try {
    fd = openSync(join(sys, 'bus/pci/devices', slot), 'r');
  } catch {
    return null;
  }
  if (locker.flock(fd, true)) return fd;
  closeSync(fd);
  return null;
}

/** What QEMU opens for a card. */
export function vfioNodes({ group }: { group: number }, dev = HOST.dev): string[] {
  return ['vfio', String(group)].map((name) => join(dev, 'vfio', name));
}

/** Whether a VM has it now. */
export function isClaimed(roots: HostRoots, slot: string, locker: Locker): boolean {
  const fd = claimCard(roots, slot, locker);
  if (fd === null) return true;
  closeSync(fd);
  return false;
}
