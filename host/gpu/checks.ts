/**
 * What keeps a card from being passed to a VM, before QEMU says it in its own words. Pure: facts in, findings out. Order and
 * reasons: the spec's anchors.md 5.1, runtime-vm.md 9.4.
 */
import { type ErrorCode, YavmError } from '../lib/errors.ts';
import { formatSize } from '../lib/size.ts';
import { type Card, isBridge } from './cards.ts';

export const VFIO_DRIVER = 'vfio-pci';

/** How QEMU's user stands to a device node. */
export type NodeState = 'usable' | 'missing' | 'forbidden';

export interface HostFacts {
  /** /dev/vfio/vfio. */
  container: NodeState;
  /** /dev/vfio/GROUP. */
  group: NodeState;
  /** The driver is there, as a module that was loaded or built in. */
  driverLoaded: boolean;
  /** Bytes that QEMU may lock, the hard limit that it can be given; Infinity: all. */
  memlock: number;
  /** The name of the user that QEMU runs as, for the fix. */
  user: string;
  /** Another VM has the card. */
  busy: boolean;
}

export interface Finding {
  code: ErrorCode;
  slot: string;
  problem: string;
  /** The exact command, or a sentence. */
  fix: string;
}

const GIB = 1024 ** 3;
/** Beside the guest's memory QEMU locks what devices and firmware have, bytes; libvirt allows as much. */
const LOCKED_BESIDE = GIB;

export const UDEV_RULE = 'SUBSYSTEM=="vfio", GROUP="kvm", MODE="0660"';
const UDEV_FIX = `echo '${UDEV_RULE}' | sudo tee /etc/udev/rules.d/50-vfio.rules && sudo udevadm trigger -s vfio`;

/** Bytes that QEMU must be allowed to lock. */
export function lockedFor(memoryMiB: number): number {
  return memoryMiB * 1024 ** 2 + LOCKED_BESIDE;
}

/**
 * In the order in which they are to be put right; empty: the card can be passed. `together`: slots of all cards of the VM.
 * `memoryMiB`: of the VM; null where there is none yet.
 */
export function checkCard(
  card: Card,
  facts: HostFacts,
  memoryMiB: number | null,
  together: readonly string[] = [card.slot],
): Finding[] {
  const finding = (code: ErrorCode, problem: string, fix: string): Finding => ({
    code,
    slot: card.slot,
    problem,
    fix,
  });
  if (card.group === null) {
    return [
      finding(
        'YAVM_E_GPU_IOMMU',
        'there is no IOMMU for it: it is off, in the firmware or in the kernel',
        "Switch on VT-d or AMD-Vi in the firmware's settings; on Intel add intel_iommu=on to the kernel's words, and boot again.",
      ),
    ];
  }
  return [
    ...groupFindings(card, together, finding),
    ...driverFindings(card, facts, finding),
    ...nodeFindings(card, facts, finding),
    ...limitFindings(facts, memoryMiB, finding),
  ];
}

type Make = (code: ErrorCode, problem: string, fix: string) => Finding;

function groupFindings(card: Card, together: readonly string[], finding: Make): Finding[] {
  const strangers = card.companions.filter((each) => !isBridge(each) && !together.includes(each.slot));
  if (strangers.length === 0) return [];
  const names = strangers.map(({ slot, driver }) => `${slot} (${driver ?? 'no driver'})`).join(', ');
  return [
    finding(
      'YAVM_E_GPU_GROUP',
      `its IOMMU group ${card.group} has other devices, which the VM could reach through it: ${names}`,
      "Put the card into another socket of the mainboard, or switch on ACS in the firmware's settings.",
    ),
  ];
}

function driverFindings({ slot, functions, migInstances }: Card, facts: HostFacts, finding: Make): Finding[] {
  const others = functions.filter(({ driver }) => driver !== VFIO_DRIVER);
  if (others.length === 0) return [];
  const names = others.map((each) => `${each.slot} has ${each.driver ?? 'no driver'}`).join(', ');
  const split =
    migInstances > 0 ? `; it is split into ${migInstances} MIG instances, which would be lost` : '';
  const load = facts.driverLoaded ? '' : `sudo modprobe ${VFIO_DRIVER} && `;
  return [
    finding(
      'YAVM_E_GPU_DRIVER',
      `not all of it is bound to ${VFIO_DRIVER}: ${names}${split}`,
      `${load}sudo ya-vm gpu bind ${slot}`,
    ),
  ];
}

function nodeFindings({ group, functions }: Card, facts: HostFacts, finding: Make): Finding[] {
  // Until the driver has the whole card there is no node for its group.
  if (functions.some(({ driver }) => driver !== VFIO_DRIVER)) return [];
  const nodes: [string, NodeState][] = [
    ['vfio', facts.container],
    [String(group), facts.group],
  ];
  return nodes.flatMap(([name, state]) => {
    if (state === 'usable') return [];
    const path = `/dev/vfio/${name}`;
    if (state === 'missing') {
      return [
        finding('YAVM_E_GPU_NODE', `${path} is not there`, `sudo modprobe ${VFIO_DRIVER} vfio_iommu_type1`),
      ];
    }
    return [
      finding(
        'YAVM_E_GPU_NODE',
        `${path}: the user that QEMU runs as (${facts.user}) may not open it`,
        UDEV_FIX,
      ),
    ];
  });
}

function limitFindings(facts: HostFacts, memoryMiB: number | null, finding: Make): Finding[] {
  const found: Finding[] = [];
  const needed = memoryMiB === null ? 0 : lockedFor(memoryMiB);
  if (facts.memlock < needed) {
    found.push(
      finding(
        'YAVM_E_GPU_MEMLOCK',
        `all memory of its VM is locked, ${formatSize(needed)}, and ${formatSize(facts.memlock)} may be`,
        "LimitMEMLOCK=infinity in the service's unit; for a user: '@kvm - memlock unlimited' in /etc/security/limits.d/ya-vm.conf, and log in again",
      ),
    );
  }
  if (facts.busy) {
    found.push(
      finding(
        'YAVM_E_GPU_BUSY',
        'another VM has it',
        'A card is for one VM at a time: ya-vm ps, ya-vm stop ID',
      ),
    );
  }
  return found;
}

/** What a start that finds this ends with. */
export function errorOf({ code, slot, problem, fix }: Finding): YavmError {
  return new YavmError(code, `the card ${slot} cannot be passed to a VM: ${problem}`, { hint: fix });
}
