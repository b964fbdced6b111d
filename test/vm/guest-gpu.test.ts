/** QEMU's own cards in real VMs, with Debian's generic kernel: nodes that an unprivileged user of the task can use. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildLayer } from '../../host/driver-layer/build.ts';
import type { VmSpec } from '../../host/runtime/index.ts';
import { driverFiles, writeFiles } from '../lib/driver-files.ts';
import { buildAssets, fetchGenericKernel } from '../lib/generic-kernel.ts';
import { run, startTestVm } from '../lib/vm.ts';

/** Neither root nor in any group of the image. */
const NOBODY = '65534:65534';

t.setTimeout(0);
const folder = mkdtempSync('/tmp/yavm-gpu-');
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
// QEMU of a root is somebody else, and opens the kernel anew.
chmodSync(folder, 0o755);

/** A driver layer for a kernel; its modules are none, and nothing loads them without their card. */
async function makeLayer(release: string): Promise<string> {
  const source = join(folder, `driver-${release}`);
  writeFiles(source, driverFiles('550.163.01', `${release} SMP preempt mod_unload modversions `));
  const output = `${source}.squashfs`;
  await buildLayer({ sources: [source], output, signal: new AbortController().signal });
  return output;
}

const { kernel, skip } = await fetchGenericKernel();

t.test('cards', { skip }, async (t) => {
  if (kernel === null) return;
  const { assets } = await buildAssets(kernel, folder, { extraModules: ['virtio_gpu', 'bochs'] });
  const release = kernel.modules.release;
  const [fitting, other] = [await makeLayer(release), await makeLayer('6.12.0-other')];
  const CASES: [gpu: NonNullable<VmSpec['gpu']>, nodes: string[], driverLayer?: string][] = [
    [{ kind: 'virtio' }, ['card0', 'renderD128'], fitting],
    [{ kind: 'bochs' }, ['card0']],
  ];
  for (const [gpu, nodes, driverLayer] of CASES) {
    await t.test(JSON.stringify(gpu), async (t) => {
      const vm = await startTestVm(t, { assets, gpu, driverLayer });
      t.match(vm.gpus, [{ nodes: nodes.map((node) => `/dev/dri/${node}`) }]);
      t.match(vm.gpus, [{ driver: gpu.kind === 'virtio' ? 'virtio_gpu' : 'bochs-drm' }]);
      const listed = await run(vm, ['ls', '/dev/dri']);
      const names = listed.stdout.text.trim().split('\n');
      t.strictSame(names.filter((name) => /\d$/.test(name)).sort(), nodes);
      for (const node of nodes) {
        // Opened for reading and writing, by no one in particular.
        const opened = await run(vm, {
          argv: ['sh', '-c', `exec 3<>/dev/dri/${node} && echo open`],
          user: NOBODY,
        });
        t.equal(opened.stdout.text, 'open\n', `${node}: ${opened.stderr.text}`);
      }
      const memory = await run(vm, { argv: ['sh', '-c', 'exec 3<>/dev/mem'], user: NOBODY });
      t.not(memory.result.exitCode, 0, 'other nodes stay what they are');
    });
  }

  await t.rejects(startTestVm(t, { assets, gpu: { kind: 'bochs' }, driverLayer: other }), {
    code: 'YAVM_E_GUEST_GPU_FAILED',
    message: /is for kernel 6\.12\.0-other, this VM runs /,
  });
});
