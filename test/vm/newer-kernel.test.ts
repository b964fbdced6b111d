/**
 * A kernel newer than Debian 12's own boots, and does so each time. Without the kernel word `clearcpuid=141` half the
 * boots of this one panic under QEMU 7.2's emulation (docs/initramfs.md), so that one boot would prove nothing.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildAssets } from '../lib/generic-kernel.ts';
import { fetchNewerKernel } from '../lib/newer-kernel.ts';
import { count } from '../lib/scale.ts';
import { privateEnvironment, shell, startTestVm } from '../lib/vm.ts';

const EMULATED = (process.env.YAVM_TEST_ACCEL ?? 'tcg') === 'tcg';

t.setTimeout(0);
const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;
// QEMU of a root is somebody else, and opens the kernel anew.
chmodSync(folder, 0o755);
const { kernel, skip } = await fetchNewerKernel();

t.test('a kernel of backports boots each time', { skip }, async (t) => {
  if (kernel === null) return;
  const at = join(folder, 'built');
  mkdirSync(at, { mode: 0o755 });
  const { assets } = await buildAssets(kernel, at);
  for (let round = 0; round < count(120); round++) {
    const vm = await startTestVm(t, { assets });
    t.equal(await shell(vm, 'uname -r'), `${kernel.modules.release}\n`);
    const flags = await shell(vm, 'grep -m1 ^flags /proc/cpuinfo');
    if (EMULATED) t.notMatch(flags, /\bcx16\b/, 'hidden from the kernel');
    await vm.kill();
  }
});
