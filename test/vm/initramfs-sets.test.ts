/** Initramfs with Debian's generic kernel under the agent: presets, an extra module, a file; and a kernel set by its name. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildKernelSet } from '../../host/kernel-sets/build.ts';
import { bootFiles, findKernelSet } from '../../host/lib/kernel-set.ts';
import { loadNative } from '../../native/load.ts';
import { buildAssets, fetchGenericKernel } from '../lib/generic-kernel.ts';
import { privateEnvironment, shell, startTestVm } from '../lib/vm.ts';
import { ACCEL, runCli } from '../lib/ya-vm.ts';

t.setTimeout(0);
const env = privateEnvironment(t);
const folder = env.XDG_RUNTIME_DIR as string;
// QEMU of a root is somebody else, and opens the kernel anew.
chmodSync(folder, 0o755);
const { kernel, skip } = await fetchGenericKernel();

t.test(
  'the generic preset: all its modules load, an extra one too, and a file arrives',
  { skip },
  async (t) => {
    if (kernel === null) return;
    const at = join(folder, 'built');
    mkdirSync(at, { mode: 0o755 });
    writeFileSync(join(folder, 'loop.conf'), 'options loop max_loop=5\n');
    const { assets, made } = await buildAssets(kernel, at, {
      preset: 'generic',
      extraModules: ['zram'],
      files: [{ source: join(folder, 'loop.conf'), path: '/etc/modprobe.d/loop.conf', mode: 0o644 }],
    });
    const names = made.modules.map(({ name }) => name);
    t.ok(names.includes('zsmalloc'), 'with what it depends on');
    // Any that the kernel refuses fails the start by name.
    const vm = await startTestVm(t, { assets, modules: { load: names } });
    t.equal(await shell(vm, 'uname -r'), `${kernel.modules.release}\n`);
    const loaded = new Set((await shell(vm, 'cut -d" " -f1 /proc/modules')).trim().split('\n'));
    t.strictSame(
      names.filter((name) => !loaded.has(name)),
      [],
    );
    t.equal(await shell(vm, 'cat /sys/block/zram0/disksize'), '0\n');
    t.equal(
      await shell(vm, 'cat /sys/module/loop/parameters/max_loop'),
      '5\n',
      'the file is read by the loader',
    );
  },
);

t.test('a kernel set by its name', { skip }, async (t) => {
  if (kernel === null) return;
  const run = (words: string[], more: Record<string, string> = {}) =>
    runCli(t, ['run', ...ACCEL, ...words, '--', 'uname', '-r'], { env: { ...env, ...more } });
  const none = await run(['--kernel-set', 'generic']);
  t.equal(none.code, 125);
  t.match(none.stderr.toString(), /YAVM_E_KERNEL_SET[\s\S]*ya-vm initramfs sets generic/);
  await buildKernelSet(findKernelSet('generic'), {
    env,
    native: loadNative(),
    signal: new AbortController().signal,
    version: 'test',
    fetch: async () => kernel,
  });
  t.match(bootFiles(env, 'generic').kernel, /\/kernels\/generic-/);
  const byOption = await run(['--kernel-set', 'generic']);
  t.equal(byOption.stdout.toString(), `${kernel.modules.release}\n`, byOption.stderr);
  const byEnvironment = await run([], { YA_VM_KERNEL_SET: 'generic' });
  t.equal(byEnvironment.stdout.toString(), `${kernel.modules.release}\n`, byEnvironment.stderr);
  const own = await run(['--kernel-set', 'cloud'], { YA_VM_KERNEL_SET: 'generic' });
  t.match(own.stdout.toString(), /-cloud-amd64\n$/, 'the option counts');
});
