/** Whether what a VM boots has a driver for its graphics cards: known before it boots, from the initramfs' manifest.json. */
import type { Vendor } from '../gpu/cards.ts';
import { YavmError } from '../lib/errors.ts';
import { type KernelModules, readModules } from './share-kind.ts';
import type { VmSpec } from './types.ts';

/** What drives a card; one of each is enough. NVIDIA's come with a driver layer, and it may have those of others too. */
const DRIVERS: Readonly<Record<'virtio' | 'bochs' | Vendor, readonly string[]>> = {
  virtio: ['virtio_gpu'],
  bochs: ['bochs'],
  nvidia: ['nvidia'],
  amd: ['amdgpu'],
  intel: ['i915', 'xe'],
  other: [],
};

/**
 * `vendors`: of the host's cards that are passed on. A manifest that cannot be read says nothing: then the guest will.
 * @throws {YavmError} YAVM_E_GPU_KERNEL
 */
export function checkGpuDrivers(
  { gpu, driverLayer, assets }: Pick<VmSpec, 'gpu' | 'driverLayer' | 'assets'>,
  vendors: readonly Vendor[] = [],
): void {
  if (gpu === undefined) return;
  const modules = readModules(assets.manifest);
  if (modules === null) return;
  if (gpu.kind !== 'pci') {
    requireOne(modules, gpu.kind, `QEMU's card '${gpu.kind}'`, kernelSet('generic'));
    return;
  }
  if (driverLayer !== undefined) return;
  for (const vendor of new Set(vendors)) {
    const fix = vendor === 'nvidia' ? LAYER : kernelSet('gpu');
    requireOne(modules, vendor, `a card of ${NAMES[vendor]}`, fix);
  }
}

const NAMES: Readonly<Record<Vendor, string>> = { nvidia: 'NVIDIA', amd: 'AMD', intel: 'Intel', other: '?' };

const LAYER = '--driver-layer FILE (a provider: YA_VM_DRIVER_LAYER); ya-vm driver-layer build makes it';

function kernelSet(name: string): string {
  return `--kernel-set ${name} (or YA_VM_KERNEL_SET=${name}); build it once: ya-vm initramfs sets ${name}`;
}

function requireOne(
  modules: NonNullable<KernelModules>,
  card: keyof typeof DRIVERS,
  what: string,
  hint: string,
): void {
  const drivers = DRIVERS[card];
  if (drivers.length === 0 || drivers.some((name) => modules.names.has(name))) return;
  throw new YavmError(
    'YAVM_E_GPU_KERNEL',
    `the VM's kernel ${modules.release} has no driver for ${what} (${drivers.join(' or ')})`,
    { hint },
  );
}
