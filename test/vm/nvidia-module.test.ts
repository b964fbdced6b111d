/**
 * NVIDIA's real modules in a VM without a card: they are refused in words that help. test/README.md says how to have a
 * layer of real packages.
 */
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildAssets, fetchGenericKernel } from '../lib/generic-kernel.ts';
import { realDriverLayer } from '../lib/real-driver-layer.ts';
import { startTestVm } from '../lib/vm.ts';

t.setTimeout(0);
/** Unpacked, bytes: made-up modules of other tests have a few hundred. */
const LEAST_MODULE = 1024 * 1024;

const { kernel, skip: noKernel } = await fetchGenericKernel();
const layer = kernel ? await realDriverLayer(t, kernel.modules.release) : null;
const skip = layer ? layer.skip : noKernel;

t.test('real modules in a VM without a card', { skip }, async (t) => {
  if (!kernel || !layer?.file) return;
  const { driverVersion, kernelRelease, files } = layer.manifest;
  const module = files.find(({ path }) => path === `lib/modules/${kernelRelease}/updates/nvidia.ko`);
  t.ok(module && 'size' in module && module.size > LEAST_MODULE, 'it is NVIDIA’s');

  const folder = mkdtempSync('/tmp/yavm-nvidia-');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // QEMU of a root is somebody else, and opens the files anew.
  chmodSync(folder, 0o755);
  const driverLayer = join(folder, 'driver.squashfs');
  copyFileSync(layer.file, driverLayer);
  chmodSync(driverLayer, 0o644);
  const { assets } = await buildAssets(kernel, folder, { preset: 'gpu' });

  // ENODEV is the module's own word: the kernel has taken it, with each symbol and parameter, and started it.
  const refusal = [
    "there is no graphics card on this VM's PCI bus: pass one with the driver layer. ",
    `NVIDIA's driver ${driverVersion} says: kernel module 'nvidia' (updates/nvidia.ko) cannot be loaded: `,
    'ENODEV: no such device, finit_module; kernel: NVRM: No NVIDIA GPU found.',
  ].join('');
  const refused = await failure(startTestVm(t, { assets, driverLayer, memoryMiB: 512 }));
  t.equal(refused.code, 'YAVM_E_GUEST_GPU_FAILED');
  t.equal(refused.message, refusal);

  // The control: the refusal above is that of this kernel's modules, not of any layer.
  const other = await failure(startTestVm(t, { driverLayer, memoryMiB: 512 }));
  t.equal(other.code, 'YAVM_E_GUEST_GPU_FAILED');
  t.match(other.message, `is for kernel ${kernelRelease}, this VM runs `);
  t.notMatch(other.message, /NVRM/);
});

async function failure(starting: Promise<unknown>): Promise<{ code?: string; message: string }> {
  const error = await starting.then(
    () => new Error('it has started'),
    (error) => error,
  );
  return { code: error.code, message: error.message };
}
