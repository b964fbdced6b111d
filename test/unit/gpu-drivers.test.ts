/** Whether what a VM boots has a driver for its card, before it boots. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { checkGpuDrivers } from '../../host/runtime/gpu-drivers.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-gpu-drivers-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;

function assets(modules: string[], builtin: string[] = []) {
  const manifest = join(folder, `${files++}.json`);
  const kernel = { release: '6.1.0-57-cloud-amd64' };
  writeFileSync(manifest, JSON.stringify({ kernel, modules: modules.map((name) => ({ name })), builtin }));
  return { kernel: '', initramfs: '', manifest };
}

t.test('emulated cards: the hint names the kernel set, and how it is built', (t) => {
  for (const [kind, module] of [
    ['virtio', 'virtio_gpu'],
    ['bochs', 'bochs'],
  ] as const) {
    t.throws(() => checkGpuDrivers({ gpu: { kind }, assets: assets(['virtio']) }), {
      code: 'YAVM_E_GPU_KERNEL',
      message: `the VM's kernel 6.1.0-57-cloud-amd64 has no driver for QEMU's card '${kind}' (${module})`,
      hint: '--kernel-set generic (or YA_VM_KERNEL_SET=generic); build it once: ya-vm initramfs sets generic',
    });
    checkGpuDrivers({ gpu: { kind }, assets: assets([module]) });
    checkGpuDrivers({ gpu: { kind }, assets: assets([], [module]) });
  }
  checkGpuDrivers({ assets: assets([]) });
  t.end();
});

t.test("cards of the host: NVIDIA's come with a layer, others with the set gpu", (t) => {
  const gpu = { kind: 'pci' as const, slots: ['0000:01:00.0'] };
  const none = assets([]);
  const CASES = [
    ['nvidia', /^--driver-layer FILE/],
    ['amd', /--kernel-set gpu/],
    ['intel', /--kernel-set gpu/],
  ] as const;
  for (const [vendor, hint] of CASES) {
    t.throws(() => checkGpuDrivers({ gpu, assets: none }, [vendor]), { code: 'YAVM_E_GPU_KERNEL', hint });
    checkGpuDrivers({ gpu, assets: none, driverLayer: '/d' }, [vendor]);
  }
  checkGpuDrivers({ gpu, assets: assets(['amdgpu', 'xe', 'nvidia']) }, ['amd', 'intel', 'nvidia']);
  checkGpuDrivers({ gpu, assets: none }, ['other']);
  checkGpuDrivers({ gpu, assets: { ...none, manifest: join(folder, 'nowhere') } }, ['amd']);
  t.end();
});
