/** What decides a template: VMs of one shape start from the same one. Pure, but for what it reads of the files named. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Accelerator } from '../accelerator.ts';
import { readTscKhz } from '../host-clock.ts';
import { kernelWords } from '../kernel-words.ts';
import { qemuArguments } from '../qemu-arguments.ts';
import { identityOf } from '../start-cache.ts';
import type { BootAssets, VmSpec } from '../types.ts';
import { PLACEHOLDERS } from './placeholders.ts';

/** What VMs of one template have in common. */
export interface TemplateShape {
  accel: 'kvm' | 'tcg';
  /** QEMU's -cpu. */
  cpuModel: string;
  cpus: number;
  memoryMiB: number;
  assets: BootAssets;
  /** For `tsc_early_khz`, see kernelWords. */
  tscKhz?: number;
}

/** The shape of a VM, once it is known what runs it. */
export function shapeOf(
  { accel, cpuModel }: Accelerator,
  { assets, cpus, memoryMiB }: Pick<VmSpec, 'assets' | 'cpus' | 'memoryMiB'>,
): TemplateShape {
  return { accel, cpuModel, cpus, memoryMiB, assets, tscKhz: accel === 'tcg' ? readTscKhz() : undefined };
}

const MIB = 1024 ** 2;
/** Of a guest of any size; bytes. */
const ROOM = 256 * MIB;
/** Measured: a guest's kernel writes 27 MiB for each GiB of its memory, for its own lists of pages. */
const ROOM_PER_BYTE = 1 / 32;

/**
 * Bytes that a template takes at most, of which those that its guest does not write are holes. Measured: 85 MiB with 256 MiB of
 * memory, 109 with 1.5 GiB, 297 with 8 GiB.
 */
export function roomFor(memoryMiB: number): number {
  const memory = memoryMiB * MIB;
  return Math.min(memory, Math.ceil(ROOM + memory * ROOM_PER_BYTE));
}

/** Raised when a template of before would not do: for what the arguments do not show. */
const FORMAT = 2;

/**
 * Names a template: QEMU and its version, all of its arguments, kernel and initramfs, the host's CPU. Whatever of it changes,
 * the old template is not found any more.
 */
export function templateKey(shape: TemplateShape, qemu: string): string {
  const cpuinfo = readText('/proc/cpuinfo');
  const { kernel, initramfs } = shape.assets;
  const assets = `${identityOf(kernel)} ${identityOf(initramfs)}`;
  return templateKeyOf(shape, { qemu: identityOf(qemu), assets, cpu: cpuOf(cpuinfo) });
}

/** {@link templateKey} of facts that were read. */
export function templateKeyOf(
  { assets: _, tscKhz, ...shape }: TemplateShape,
  facts: { qemu: string; assets: string; cpu: string },
): string {
  const none = { shares: [], control: 0, data: 0, log: 0, qmp: 0, consoleLog: 0, kernel: 0, initramfs: 0 };
  const template = { ram: 0, mode: 'make' } as const;
  const words = kernelWords(shape.accel, tscKhz);
  const args = qemuArguments({ ...shape, ...none, ...PLACEHOLDERS, template, kernelWords: words, name: '' });
  const parts = [`format ${FORMAT}`, facts.qemu, facts.assets, facts.cpu, ...args];
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 32);
}

/** Model and features of the host's first CPU, from /proc/cpuinfo: a snapshot does not move to another. */
export function cpuOf(cpuinfo: string): string {
  const lines = cpuinfo.slice(0, cpuinfo.indexOf('\n\n')).split('\n');
  return lines.filter((line) => /^(vendor_id|cpu family|model|stepping|flags)\s*:/.test(line)).join('\n');
}

/** What a VM has that no template has; null: nothing, it can start from one. For the log and the person who reads it. */
export function whyCold(facts: ColdFacts): string | null {
  if (facts.userNetwork) return "its way to the internet is QEMU's user network";
  for (const part of Object.keys(OBSTACLES) as (keyof VmSpec)[]) {
    const reason = obstacleIn(facts, part);
    if (reason !== null) return reason;
  }
  return null;
}

export type ColdFacts = Partial<VmSpec> & { userNetwork?: unknown };

type Obstacle<Part extends keyof VmSpec> = ((value: NonNullable<VmSpec[Part]>) => string | null) | null;

/** Of each part of a VM. Null: the shape has it, the VM gets it later, or only the host knows of it. A new part has to be judged here. */
const OBSTACLES: { readonly [Part in keyof Required<VmSpec>]: Obstacle<Part> } = {
  assets: null,
  layers: null,
  root: null,
  rootDisk: null,
  diskFolder: null,
  memoryMiB: null,
  hugepages: () => 'its memory is in huge pages',
  cpus: null,
  hostname: null,
  accel: null,
  start: null,
  mounts: null,
  disks: null,
  shares: (shares) => (shares.length > 0 ? 'folders of the host are shared with it' : null),
  network: null,
  modules: ({ blacklist = [], options = {} }) =>
    blacklist.length > 0 || Object.keys(options).length > 0
      ? 'its kernel modules have options of their own'
      : null,
  gpu: () => 'it has a graphics card',
  driverLayer: () => 'it has a driver layer',
  kernelWords: (words) => (words.length > 0 ? 'its kernel gets words of its own' : null),
  supervisor: null,
  title: null,
};

function obstacleIn<Part extends keyof VmSpec>(facts: Partial<VmSpec>, part: Part): string | null {
  const value: VmSpec[Part] | undefined = facts[part];
  const obstacle: Obstacle<Part> = OBSTACLES[part];
  return value === undefined || value === null || obstacle === null ? null : obstacle(value);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
