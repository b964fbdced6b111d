/** `--gpu` and `--driver-layer` of `run` and `shell`. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { readHugepages } from '../gpu/options.ts';
import { parseSlot } from '../gpu/slot.ts';
import type { VmSpec } from '../runtime/types.ts';
import { collect, forOption, usageError } from './options.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export function addGpuOptions(command: Command): void {
  command
    .option(
      '--gpu <virtio|bochs|slot>',
      "a graphics card: QEMU's own, or one of this host by its address (ya-vm gpu list), which may be repeated",
      collect(forOption('--gpu', parseGpu)),
    )
    .option('--driver-layer <file>', "squashfs with the driver of the host's card")
    .option(
      '--hugepages <2M|1G|off>',
      'all memory in huge pages that this host has set aside, whole ones (default: YA_VM_HUGEPAGES, else off)',
    );
}

function parseGpu(text: string): string {
  return isEmulated(text) ? text : parseSlot(text);
}

function isEmulated(text: string): text is 'virtio' | 'bochs' {
  return text === 'virtio' || text === 'bochs';
}

/** @throws {YavmError} YAVM_E_USAGE */
export function readGpuOptions(
  options: Readonly<Record<string, unknown>>,
  env: Environment = {},
): Pick<VmSpec, 'gpu' | 'driverLayer' | 'hugepages'> {
  const { gpu = [], driverLayer } = options as { gpu?: string[]; driverLayer?: string };
  const read: Pick<VmSpec, 'gpu' | 'driverLayer' | 'hugepages'> = { ...readHugepages(options, env) };
  if (driverLayer !== undefined) read.driverLayer = resolve(driverLayer);
  const [first] = gpu;
  if (first === undefined) return read;
  if (!gpu.some(isEmulated)) return { ...read, gpu: { kind: 'pci', slots: [...new Set(gpu)] } };
  if (gpu.length === 1 && isEmulated(first)) return { ...read, gpu: { kind: first } };
  throw usageError('--gpu: an emulated card is the only one of its VM');
}
