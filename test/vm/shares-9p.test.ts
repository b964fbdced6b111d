/** Folders of the host in a VM by QEMU's own 9p, with Debian's generic kernel: where virtiofsd cannot run. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildAssets, fetchGenericKernel } from '../lib/generic-kernel.ts';
import { argumentsOf, fileServers, findQemu } from '../lib/processes.ts';
import { Random } from '../lib/random.ts';
import { sha256, shell, startTestVm } from '../lib/vm.ts';

const MIB = 1024 * 1024;

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
t.setTimeout(0);
const folder = mkdtempSync('/tmp/yavm-9p-');
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
// QEMU of a root is somebody else, and opens the kernel anew.
chmodSync(folder, 0o755);
process.env.YAVM_VIRTIOFSD = '/nonexistent';

const { kernel, skip } = await fetchGenericKernel();

t.test('9p', { skip }, async (t) => {
  if (kernel === null) return;
  const file = (name: string) => join(folder, name);
  const { assets } = await buildAssets(kernel, folder);
  const [share, fixed] = [file('a, shared=folder'), file('fixed')];
  for (const each of [share, fixed]) {
    mkdirSync(each);
    chmodSync(each, 0o777);
  }
  writeFileSync(file('secret'), 'of the host');
  writeFileSync(join(fixed, 'file'), 'as it is');
  const vm = await startTestVm(t, {
    assets,
    shares: [
      { hostPath: share, path: '/golem/shared' },
      { hostPath: fixed, path: '/golem/fixed', readOnly: true },
    ],
  });
  const [qemu] = findQemu([vm.id]) as [number];
  t.notMatch(argumentsOf(qemu).join(' '), /memory-backend/, 'memory of its own');
  t.strictSame(fileServers(process.pid), []);

  await t.test('files go both ways, seen at once', async (t) => {
    for (const text of ['one', 'two two', 'three']) {
      writeFileSync(join(share, 'live'), text);
      t.equal(await shell(vm, 'cat /golem/shared/live'), text);
    }
    const bytes = random.bytes(4 * MIB + 7);
    writeFileSync(join(share, 'big'), bytes);
    t.equal((await shell(vm, 'sha256sum </golem/shared/big')).slice(0, 64), sha256(bytes));
    await shell(
      vm,
      'cd /golem/shared && mkdir out && cp big out/copy && chmod 640 out/copy && ln -s copy out/link',
    );
    t.equal(sha256(readFileSync(join(share, 'out/copy'))), sha256(bytes));
    t.equal(statSync(join(share, 'out/copy')).mode & 0o777, 0o640, 'with the modes that the VM gives them');
    t.equal(readlinkSync(join(share, 'out/link')), 'copy', 'and links that are links');
  });

  await t.test('read-only is so whatever the VM does; neither links nor .. lead out', async (t) => {
    t.equal(await shell(vm, 'cat /golem/fixed/file'), 'as it is');
    const write = 'mount -o remount,rw /golem/fixed; echo x >/golem/fixed/file';
    await t.rejects(shell(vm, write), /Read-only file system/);
    symlinkSync('../secret', join(share, 'relative'));
    symlinkSync(file('secret'), join(share, 'absolute'));
    symlinkSync('..', join(share, 'up'));
    for (const path of ['relative', 'absolute', 'up/secret', '../secret', '../../secret']) {
      await t.rejects(shell(vm, `cat '/golem/shared/${path}'`), /No such file/, path);
    }
    await t.rejects(shell(vm, 'mknod /golem/shared/disk b 8 0'), /not permitted/);
    t.notOk(existsSync(join(share, 'disk')));
    await t.rejects(shell(vm, 'chown 12345 /golem/shared/out/copy'), /not permitted/, 'no owner but QEMU’s');
  });

  await t.test(
    'what QEMU may not write is refused before a boot',
    { skip: process.getuid?.() !== 0 },
    async (t) => {
      chmodSync(fixed, 0o755);
      const start = (readOnly: boolean) =>
        startTestVm(t, { assets, shares: [{ hostPath: fixed, path: '/x', readOnly }] });
      await t.rejects(start(false), { code: 'YAVM_E_VOLUMES', message: /may not write/, hint: /virtiofsd/ });
      const vm = await start(true);
      t.equal(await shell(vm, 'cat /x/file'), 'as it is');
    },
  );

  await vm.stop();
  t.match(await vm.ended, { orderly: true });
});
