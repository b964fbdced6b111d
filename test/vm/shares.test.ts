/** Folders of the host in a VM, through virtiofsd: both ways, and not beyond. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import { startTimeOf } from '../../host/lib/process.ts';
import { roomFor } from '../lib/in-time.ts';
import { fileServers, waitUntil } from '../lib/processes.ts';
import { type Owner, sha256, shell, startTestVm } from '../lib/vm.ts';

const MIB = 1024 * 1024;
const DEADLINE = 120_000;

function makeFolder(t: Owner): string {
  const folder = mkdtempSync('/tmp/yavm-share-');
  // Who is root in the VM is the one who runs the test; others may look.
  chmodSync(folder, 0o755);
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

t.test('files go both ways, and not beyond', { timeout: 3 * DEADLINE }, async (t) => {
  const top = makeFolder(t);
  const [share, fixed] = [join(top, 'a, shared=folder'), join(top, 'fixed')];
  mkdirSync(share);
  mkdirSync(fixed);
  writeFileSync(join(top, 'secret'), 'of the host');
  writeFileSync(join(fixed, 'file'), 'as it is');
  const big = Buffer.alloc(8 * MIB, 'a line of the host\n');
  writeFileSync(join(share, 'big'), big);
  const vm = await startTestVm(t, {
    shares: [
      { hostPath: share, path: '/golem/shared' },
      { hostPath: fixed, path: '/golem/fixed', readOnly: true },
    ],
  });

  t.equal(
    (await shell(vm, 'sha256sum < /golem/shared/big')).slice(0, 64),
    sha256(big),
    'what was there before the start',
  );

  await t.test('changes of the host are seen at once', async (t) => {
    for (const text of ['one', 'two two', 'three']) {
      writeFileSync(join(share, 'live'), text);
      t.equal(await shell(vm, 'cat /golem/shared/live'), text);
    }
    rmSync(join(share, 'live'));
    t.equal(await shell(vm, 'ls /golem/shared'), 'big\n');
  });

  await t.test("and so are the VM's", async (t) => {
    const sum = await shell(
      vm,
      `mkdir -p /golem/shared/out && head -c ${8 * MIB} /dev/urandom > /golem/shared/out/made && sha256sum < /golem/shared/out/made`,
    );
    const made = readFileSync(join(share, 'out/made'));
    t.equal(made.length, 8 * MIB);
    t.equal(sha256(made), sum.slice(0, 64));
  });

  await t.test('a folder that is read-only is so on the host', async (t) => {
    t.equal(await shell(vm, 'cat /golem/fixed/file'), 'as it is');
    await t.rejects(shell(vm, 'echo x > /golem/fixed/file'), /Read-only file system/);
    await t.rejects(
      shell(vm, 'mount -o remount,rw /golem/fixed; echo x > /golem/fixed/file'),
      /Read-only file system/,
      'whatever the VM does to its mount',
    );
    t.equal(readFileSync(join(fixed, 'file'), 'utf8'), 'as it is');
  });

  await t.test('neither links nor .. lead out of it', async (t) => {
    symlinkSync('../secret', join(share, 'relative'));
    symlinkSync(join(top, 'secret'), join(share, 'absolute'));
    symlinkSync('..', join(share, 'up'));
    for (const path of ['relative', 'absolute', 'up/secret', '../secret', '../../secret']) {
      await t.rejects(shell(vm, `cat '/golem/shared/${path}'`), /No such file/, path);
    }
    await t.rejects(shell(vm, 'mknod /golem/shared/disk b 8 0'), /not permitted/, 'no devices');
    t.notOk(existsSync(join(share, 'disk')));
  });

  const servers = fileServers(process.pid);
  t.ok(servers.length >= 2, `${servers.length} processes serve`);
  await vm.kill();
  t.ok(
    servers.every((pid) => startTimeOf(pid) === null),
    'a kill leaves none',
  );
  t.strictSame(fileServers(process.pid), []);
});

t.test('a file server that dies ends the VM, with the reason', { timeout: 2 * DEADLINE }, async (t) => {
  const share = makeFolder(t);
  const vm = await startTestVm(t, { shares: [{ hostPath: share, path: '/shared' }] });
  for (const pid of fileServers(process.pid)) process.kill(pid, 'SIGKILL');
  const { reason, error } = await vm.ended;
  t.equal(reason, 'failed');
  t.match(error, { code: 'YAVM_E_VOLUMES', message: /the file server of .* ended with signal 9/ });
});

t.test('QEMU dies, and is what is blamed', { timeout: 2 * DEADLINE }, async (t) => {
  const share = makeFolder(t);
  const vm = await startTestVm(t, { shares: [{ hostPath: share, path: '/shared' }] });
  const servers = fileServers(process.pid);
  process.kill(vm.pid, 'SIGKILL');
  t.match((await vm.ended).error, { code: 'YAVM_E_QEMU_DIED' });
  t.ok(servers.every((pid) => startTimeOf(pid) === null));
});

t.test('what cannot be shared', { timeout: DEADLINE }, async (t) => {
  const folder = makeFolder(t);
  const start = (hostPath: string) => startTestVm(t, { shares: [{ hostPath, path: '/x' }] });
  await t.rejects(start('/no/such/folder'), { code: 'YAVM_E_VOLUMES' });
  process.env.YAVM_VIRTIOFSD = '/no/such/program';
  t.teardown(() => {
    delete process.env.YAVM_VIRTIOFSD;
  });
  const error: unknown = await start(folder).catch((error) => error);
  t.ok(
    isYavmError(error, 'YAVM_E_VOLUMES') && /apt-get install virtiofsd/.test(error.hint ?? ''),
    String(error),
  );
  // A server that does not get as far as serving.
  const broken = join(folder, 'broken');
  writeFileSync(broken, '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no luck" >&2\nexit 3\n', {
    mode: 0o755,
  });
  process.env.YAVM_VIRTIOFSD = broken;
  await t.rejects(start(folder), { code: 'YAVM_E_VOLUMES', message: /exit code 3: no luck/ });
  t.strictSame((await waitUntil(() => fileServers(process.pid).length === 0, roomFor(1000))) === null, false);
});
