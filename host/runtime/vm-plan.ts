/** From a VM's specification to what its parts are told. Pure. */
import type { ConfigureRequest, GpuSpec, LogLevel, MountSpec } from '../../guest/protocol/messages.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { NicBackend } from '../network/types.ts';
import { MIN_DISK } from './disk-size.ts';
import { PCI_SLOTS } from './pci-slots.ts';
import type { NicArguments } from './qemu-arguments.ts';
import { realSlots, throughPlaceholders } from './template/placeholders.ts';
import type { ShareKind, VmSpec } from './types.ts';

/** virtio-blk serials, by which the guest finds its disks. */
export const ROOT_SERIAL = 'root';

export function layerSerial(index: number): string {
  return `layer${index}`;
}

export function diskSerial(index: number): string {
  return `volume${index}`;
}

/** Of the disk with the driver of a card, see docs/gpu.md. */
export const DRIVER_SERIAL = 'driver';

export function shareTag(index: number): string {
  return `share${index}`;
}

/** The kernel and its reserves take about 40 MiB; below this it does not boot. */
const MIN_MEMORY_MIB = 80;
/** QEMU's q35 stops at 288. */
const MAX_CPUS = 288;

/** What of a VM has bounds. */
export type MachineSpec = Pick<
  VmSpec,
  'layers' | 'root' | 'disks' | 'memoryMiB' | 'cpus' | 'network' | 'shares' | 'gpu' | 'driverLayer'
>;

/** @throws {YavmError} YAVM_E_VM_SPEC for a VM that cannot be built. */
export function checkSpec(spec: MachineSpec): void {
  const { root, memoryMiB, cpus, network, shares = [], gpu } = spec;
  const disks = diskCount(spec);
  const cards = gpu?.kind === 'pci' ? gpu.slots.length : 0;
  const nics = network?.links?.length ?? 0;
  const problems: [boolean, string][] = [
    [
      disks > PCI_SLOTS.disks.length,
      `${disks} disks, at most ${PCI_SLOTS.disks.length} (layers, the root disk, storage volumes, and a driver layer)`,
    ],
    [
      'disk' in root && root.disk < MIN_DISK,
      `a root disk of ${'disk' in root ? root.disk : 0} bytes, at least ${MIN_DISK}`,
    ],
    [
      shares.length > PCI_SLOTS.shares.length,
      `${shares.length} folders of the host as volumes, at most ${PCI_SLOTS.shares.length}`,
    ],
    [cards > PCI_SLOTS.rootPorts.length, `${cards} cards, at most ${PCI_SLOTS.rootPorts.length}`],
    [nics > PCI_SLOTS.nics.length, `${nics} network links, at most ${PCI_SLOTS.nics.length}`],
    [
      !Number.isInteger(memoryMiB) || memoryMiB < MIN_MEMORY_MIB,
      `${memoryMiB} MiB of memory, at least ${MIN_MEMORY_MIB}`,
    ],
    [!Number.isInteger(cpus) || cpus < 1 || cpus > MAX_CPUS, `${cpus} CPUs, 1 to ${MAX_CPUS}`],
  ];
  const problem = problems.find(([wrong]) => wrong);
  if (problem) throw new YavmError('YAVM_E_VM_SPEC', `a VM cannot have ${problem[1]}`);
}

/** Disks in all, in the order of openDisks. */
export function diskCount({ layers, root, disks = [], driverLayer }: MachineSpec): number {
  return layers.length + disks.length + ('disk' in root ? 1 : 0) + (driverLayer === undefined ? 0 : 1);
}

/**
 * The NICs of the links that the guest is to configure; `cables` in their order, null and absent ones lead nowhere.
 * @throws {YavmError} YAVM_E_VM_SPEC
 */
export function planNics(spec: VmSpec, cables: readonly (NicBackend | null)[] = []): NicArguments[] {
  const links = spec.network?.links ?? [];
  if (cables.length > links.length) {
    throw new YavmError(
      'YAVM_E_VM_SPEC',
      `a VM cannot have ${cables.length} cables for ${links.length} network links`,
    );
  }
  return links.map(({ mac }, index) => ({ mac, backend: cables[index] ?? null }));
}

export interface ConfigureFacts {
  /** Milliseconds since the epoch; with `uptime`: when the guest's was that, in milliseconds too. */
  now: number;
  uptime?: number;
  /** Fresh random bytes, at least 32. */
  entropy: Uint8Array;
  logLevel: LogLevel;
  /** How its shared folders reach it; default virtiofs. */
  shares?: ShareKind;
  /** Of a VM from a template: its devices are among placeholders, and its NICs have the placeholders' MACs. */
  placeholders?: ReadonlyMap<string, string> | null;
}

/** What the guest is told after its hello. */
export function planConfigure(
  spec: VmSpec,
  { now, uptime, entropy, logLevel, shares = 'virtiofs', placeholders = null }: ConfigureFacts,
): ConfigureRequest {
  return {
    op: 'configure',
    hostname: spec.hostname,
    layers: spec.layers.map((_, index) => ({ serial: layerSerial(index) })),
    upper: 'disk' in spec.root ? { serial: ROOT_SERIAL, errors: spec.root.errors } : { ram: spec.root.ram },
    mounts: planMounts(spec, shares),
    network: spec.network && throughPlaceholders(spec.network, placeholders),
    gpu: planGpu(spec),
    modules: spec.modules,
    slots: placeholders ? realSlots(diskCount(spec), spec.network?.links?.length ?? 0) : undefined,
    clock: now / 1000,
    uptime,
    entropy,
    logLevel,
  };
}

function planGpu({ gpu, driverLayer }: VmSpec): GpuSpec | undefined {
  if (gpu === undefined && driverLayer === undefined) return undefined;
  return driverLayer === undefined ? {} : { layer: { serial: DRIVER_SERIAL } };
}

function planMounts({ mounts = [], disks = [], shares = [] }: VmSpec, kind: ShareKind): MountSpec[] {
  return [
    ...mounts,
    ...disks.map(
      ({ path, errors }, index): MountSpec => ({ kind: 'disk', serial: diskSerial(index), path, errors }),
    ),
    ...shares.map(({ path, readOnly }, index): MountSpec => ({ kind, tag: shareTag(index), path, readOnly })),
  ];
}

/** The guest need not send what our log drops. */
export function guestLogLevel(logger: Logger): LogLevel {
  const levels = ['trace', 'debug', 'info', 'warn', 'error'] as const;
  return levels.find((level) => logger.enabled(level)) ?? 'silent';
}

/** Least and unknown-case deadlines of a boot, milliseconds. */
const BOOT = { kvm: { least: 5000, unknown: 15_000 }, tcg: { least: 20_000, unknown: 60_000 } } as const;
const BOOT_MOST = 600_000;

/** How long a guest may take to say hello, from how long it took before (milliseconds): ten times that. */
export function bootDeadline(accel: 'kvm' | 'tcg', before: number | undefined): number {
  const { least, unknown } = BOOT[accel];
  return before === undefined ? unknown : Math.min(Math.max(least, 10 * before), BOOT_MOST);
}

/** For locking memory, milliseconds: from what others have measured, 210 s for 24 GiB (the spec's anchors.md, 5.1). */
const LOCKING = { once: 30_000, perGib: 10_000 } as const;

/** What passing cards on adds to that: QEMU locks all memory before the guest runs. */
export function lockingTime({ gpu, memoryMiB }: Pick<VmSpec, 'gpu' | 'memoryMiB'>): number {
  return gpu?.kind === 'pci' ? Math.min(LOCKING.once + LOCKING.perGib * (memoryMiB / 1024), BOOT_MOST) : 0;
}
