/** What the host says about passing a card on: device nodes, limits, who has the card. Reads only. */
import { join } from 'node:path';
import { mayOpen, modeOf, type ProcessUser } from '../runtime/privileges.ts';
import type { Card } from './cards.ts';
import { type HostFacts, type NodeState, VFIO_DRIVER } from './checks.ts';
import { isClaimed, type Locker, vfioNodes } from './claim.ts';
import { entries, type HostRoots, readText } from './sysfs.ts';

export interface Facing {
  roots: HostRoots;
  /** Whom QEMU runs as when it needs these devices; null: as we are. */
  user(devices: readonly string[]): ProcessUser | null;
  locker: Locker;
}

export function hostFacts(card: Card, { roots, user: userFor, locker }: Facing): HostFacts {
  const user = userFor(card.group === null ? [] : vfioNodes({ group: card.group }, roots.dev));
  const node = (name: string) => nodeState(join(roots.dev, 'vfio', name), user);
  return {
    container: node('vfio'),
    group: card.group === null ? 'missing' : node(String(card.group)),
    driverLoaded: entries(roots.sys, 'bus/pci/drivers').includes(VFIO_DRIVER),
    memlock: user === null ? memlockOf(roots) : Infinity,
    user: user === null ? 'you' : `uid ${user.uid}`,
    busy: isClaimed(roots, card.slot, locker),
  };
}

function nodeState(path: string, user: ProcessUser | null): NodeState {
  const mode = modeOf(path);
  if (mode === null) return 'missing';
  return mayOpen(mode, user ?? ourselves()) ? 'usable' : 'forbidden';
}

function ourselves(): ProcessUser {
  return {
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    groups: process.getgroups?.() ?? [],
  };
}

/** Of this process. */
export function memlockOf({ proc }: HostRoots): number {
  return memlockLimit(readText(join(proc, 'self/limits')) ?? '');
}

/** The hard limit in /proc/PID/limits, bytes: up to it anybody may raise his own. 0 when it does not say. */
export function memlockLimit(limits: string): number {
  const [, hard] = /^Max locked memory\s+\S+\s+(\S+)/m.exec(limits) ?? [];
  return hard === 'unlimited' ? Infinity : Number(hard ?? 0) || 0;
}
