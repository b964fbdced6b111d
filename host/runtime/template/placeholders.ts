/** The devices of a template: each slot is taken, and none has anything behind it. Pure. */
import type { NetworkSpec } from '../../../guest/protocol/messages.ts';
import { PCI_SLOTS } from '../pci-slots.ts';
import type { NicArguments, QemuSpec } from '../qemu-arguments.ts';
import type { VmSpec } from '../types.ts';

type Devices = Pick<QemuSpec, 'disks' | 'nics'>;

export const PLACEHOLDERS: Devices = {
  disks: PCI_SLOTS.disks.map(() => null),
  nics: PCI_SLOTS.nics.map((_, index): NicArguments => ({ mac: placeholderMac(index), backend: null })),
};

/**
 * MAC of a NIC as the template's guest could see it. The state that is saved has it, so a VM's NIC has it too until its
 * guest sets the one that it is to have. Locally administered.
 */
export function placeholderMac(index: number): string {
  return `52:54:00:79:61:${index.toString(16).padStart(2, '0')}`;
}

/** Of a VM that starts from a template: its disks and NICs, and in the slots that it does not need what the template has. */
export function fillSlots<Disk, Nic>(disks: readonly Disk[], nics: readonly Nic[]) {
  return {
    disks: PLACEHOLDERS.disks.map((_, index) => disks[index] ?? null),
    nics: PLACEHOLDERS.nics.map((none, index) => nics[index] ?? none),
  };
}

/** PCI device numbers of what is real, for the guest. */
export function realSlots(disks: number, nics: number): number[] {
  return [...PCI_SLOTS.nics.slice(0, nics), ...PCI_SLOTS.disks.slice(0, disks)];
}

/** By the MAC that a link is to have, in lower case: the one that its NIC has. */
export function placeholdersOf({ network }: Pick<VmSpec, 'network'>): Map<string, string> {
  const links = network?.links ?? [];
  return new Map(links.map(({ mac }, index) => [mac.toLowerCase(), placeholderMac(index)]));
}

/**
 * The same network for a guest whose NICs have placeholders' MACs: it finds them by these, and sets the real ones. `null`:
 * they have their own.
 */
export function throughPlaceholders(
  network: NetworkSpec,
  placeholders: ReadonlyMap<string, string> | null,
): NetworkSpec {
  if (placeholders === null || network.links === undefined) return network;
  const links = network.links.map((link) => {
    const mac = placeholders.get(link.mac.toLowerCase());
    return mac === undefined ? link : { ...link, mac, setMac: link.setMac ?? link.mac };
  });
  return { ...network, links };
}
