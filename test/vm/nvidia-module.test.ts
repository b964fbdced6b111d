/**
 * NVIDIA's real modules in a VM without a card: they are refused in words that help. A layer of real packages takes a
 * compiler and many minutes, and packages that not every mirror has: it is made beforehand, for Debian's generic kernel,
 * with `ya-vm driver-layer build --from-apt`, and named by YAVM_TEST_DRIVER_LAYER.
 */
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { inspectLayer } from '../../host/driver-layer/inspect.ts';
import { buildAssets, fetchGenericKernel } from '../lib/generic-kernel.ts';
import { startTestVm } from '../lib/vm.ts';

t.setTimeout(0);
const layer = process.env.YAVM_TEST_DRIVER_LAYER ?? '';
const { kernel, skip } =
  layer === ''
    ? { kernel: null, skip: 'YAVM_TEST_DRIVER_LAYER names no driver layer' }
    : await fetchGenericKernel();

t.test('without a card, the real module is refused, and the error says what it says', { skip }, async (t) => {
  if (kernel === null) return;
  const { driverVersion, kernelRelease } = await inspectLayer(layer);
  if (kernelRelease !== kernel.modules.release) {
    t.comment(`the layer is for ${kernelRelease}, the generic kernel is ${kernel.modules.release}`);
    return;
  }
  const folder = mkdtempSync('/tmp/yavm-nvidia-');
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // QEMU of a root is somebody else, and opens the files anew.
  chmodSync(folder, 0o755);
  const driverLayer = join(folder, 'driver.squashfs');
  copyFileSync(layer, driverLayer);
  const { assets } = await buildAssets(kernel, folder, { preset: 'gpu' });
  await t.rejects(startTestVm(t, { assets, driverLayer, memoryMiB: 512 }), {
    code: 'YAVM_E_GUEST_GPU_FAILED',
    message: new RegExp(
      `no graphics card on this VM's PCI bus.*NVIDIA's driver ${driverVersion.replaceAll('.', '\\.')} says: .*'nvidia'.*No NVIDIA GPU found`,
      's',
    ),
  });
});
