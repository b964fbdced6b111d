/**
 * Gives all functions of a card to vfio-pci, and back to the host's drivers. By driver_override, not by ids: of two equal cards
 * one may stay with the host.
 */
import { chmodSync, chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno, YavmError } from '../lib/errors.ts';
import type { Card } from './cards.ts';
import { VFIO_DRIVER } from './checks.ts';
import { entries, type HostRoots, linkName } from './sysfs.ts';

/** What changes the host. Tests stand in for the kernel. */
export interface BindEffects {
  /** To a file of sysfs. */
  write(path: string, text: string): void;
  /** Lets a group read and write a device node. */
  giveNode(path: string, gid: number): void;
  /** modprobe(8). */
  loadDriver(name: string): void;
}

export const HOST_EFFECTS: Omit<BindEffects, 'loadDriver'> = {
  write: (path, text) => writeFileSync(path, text, { flag: 'w' }),
  giveNode(path, gid) {
    chownSync(path, 0, gid);
    chmodSync(path, 0o660);
  },
};

export interface Bound {
  slot: string;
  from: string | null;
  to: string | null;
}

/**
 * `gid`: of who may use it; null: nobody but root gets it. What is bound already stays.
 * @returns what became of each function.
 * @throws {YavmError} YAVM_E_GPU_BIND, YAVM_E_GPU_IOMMU
 */
export function bindCard(
  card: Card,
  {
    roots,
    effects,
    gid,
    force,
  }: { roots: HostRoots; effects: BindEffects; gid: number | null; force: boolean },
): Bound[] {
  if (card.group === null) {
    throw new YavmError('YAVM_E_GPU_IOMMU', `the card ${card.slot} has no IOMMU group: the IOMMU is off`, {
      hint: "'ya-vm gpu check' says how to switch it on.",
    });
  }
  if (card.bootDisplay && !force) {
    throw new YavmError('YAVM_E_GPU_BIND', `the console of this host is on the card ${card.slot}`, {
      hint: 'It would go dark. If the host is reached otherwise: --force',
    });
  }
  return attempt(card, () => {
    if (!entries(roots.sys, 'bus/pci/drivers').includes(VFIO_DRIVER)) effects.loadDriver(VFIO_DRIVER);
    const moved = moveAll(card, VFIO_DRIVER, roots, effects);
    if (gid !== null) effects.giveNode(join(roots.dev, 'vfio', String(card.group)), gid);
    return moved;
  });
}

/** Back to whichever driver of the host wants them. @throws {YavmError} YAVM_E_GPU_BIND */
export function unbindCard(card: Card, roots: HostRoots, effects: BindEffects): Bound[] {
  return attempt(card, () => moveAll(card, null, roots, effects));
}

function moveAll(
  { functions }: Card,
  driver: string | null,
  roots: HostRoots,
  effects: BindEffects,
): Bound[] {
  const bus = join(roots.sys, 'bus/pci');
  return functions.map(({ slot, driver: from }): Bound => {
    const folder = join(bus, 'devices', slot);
    const there = driver === null ? from !== null && from !== VFIO_DRIVER : from === driver;
    // A newline alone takes the override away.
    effects.write(join(folder, 'driver_override'), `${driver ?? ''}\n`);
    if (there) return { slot, from, to: from };
    if (from !== null) effects.write(join(folder, 'driver/unbind'), slot);
    effects.write(join(bus, 'drivers_probe'), slot);
    const to = linkName(join(folder, 'driver'));
    if (driver !== null && to !== driver) {
      throw new YavmError('YAVM_E_GPU_BIND', `${slot} did not go to ${driver}: ${to ?? 'no driver'} has it`, {
        hint: 'sudo dmesg | tail says why.',
      });
    }
    return { slot, from, to };
  });
}

function attempt<T>({ slot }: Card, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof YavmError) throw cause;
    const denied = hasErrno(cause, 'EACCES') || hasErrno(cause, 'EPERM');
    throw new YavmError('YAVM_E_GPU_BIND', `the card ${slot} cannot be moved to another driver`, {
      cause,
      hint: denied ? 'This takes root: sudo ya-vm gpu …' : 'sudo dmesg | tail says why.',
    });
  }
}
