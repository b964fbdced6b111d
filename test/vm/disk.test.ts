/** The root disk: it ends where it should, what was fsynced stays, and what was deleted goes back to the host. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Vm } from '../../host/runtime/index.ts';
import { allocated, findDamage, readFileIn, replayJournal } from '../lib/ext4.ts';
import { argumentsOf, findQemu, waitUntil } from '../lib/processes.ts';
import { Random } from '../lib/random.ts';
import { privateEnvironment, run, sha256, shell, startTestVm } from '../lib/vm.ts';

t.setTimeout(0);
const MIB = 1024 * 1024;
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;
/** Where disks without a name are made. */
process.env.YAVM_DISK_DIR = folder;

/** Size and free space of the file system at `path`, KiB. */
async function space(vm: Vm, path: string): Promise<{ total: number; free: number }> {
  const fields = (await shell(vm, `df -P -k ${path} | tail -n 1`)).trim().split(/\s+/).map(Number);
  return { total: fields[1] as number, free: fields[3] as number };
}

/** Writes until there is no more room, and sees that this is what happens, and nothing worse. */
async function overfill(t: Test, vm: Vm, file: string, mebibytes: number): Promise<void> {
  const words = ['dd', 'if=/dev/zero', `of=${file}`, 'bs=1M', `count=${mebibytes}`];
  const { result, stderr } = await run(vm, words);
  t.match(result, { exitCode: 1, outOfMemory: false }, 'dd fails, and is not killed');
  t.match(stderr.text, /No space left on device/);
}

t.test('a root disk of 64 MiB', async (t) => {
  const disk = join(folder, 'kept.disk');
  const vm = await startTestVm(t, { root: { disk: 64 * MIB }, rootDisk: disk, memoryMiB: 128 });
  t.match(await shell(vm, 'grep " / " /proc/mounts'), /^overlay \/ overlay rw,/);
  const empty = allocated(disk);
  t.ok(empty < 4 * MIB && statSync(disk).size > 64 * MIB, `${empty} bytes on the host: sparse`);

  t.test('has the room that was asked for, and then no space left: the VM goes on', async (t) => {
    const { free } = await space(vm, '/');
    t.ok(free >= 64 * 1024 && free < 72 * 1024, `${free} KiB`);
    await overfill(t, vm, '/big', 200);
    t.ok(Number(await shell(vm, 'stat -c %s /big')) >= 64 * MIB, 'all of it was of use');
    const { result } = await run(vm, ['sh', '-c', 'echo more >/more']);
    t.equal(result.exitCode, 1, 'nothing else can be written');
    t.equal(await shell(vm, 'rm /big; echo more >/more && cat /more'), 'more\n', 'room is there again');
  });

  t.test('gives blocks that were freed back to the host', async (t) => {
    await shell(vm, 'dd if=/dev/urandom of=/noise bs=1M count=32 2>/dev/null && sync');
    const full = allocated(disk);
    t.ok(full > empty + 30 * MIB, `${full} bytes with 32 MiB written`);
    await shell(vm, 'rm /noise && sync');
    // The blocks are discarded once the journal has the transaction that freed them.
    const milliseconds = await waitUntil(() => allocated(disk) < full - 30 * MIB, 60_000);
    t.not(milliseconds, null, `${allocated(disk)} bytes after it was deleted`);
  });

  t.test('is whole and clean after an orderly stop, with every file that was synced', async (t) => {
    const bytes = random.bytes(5 * MIB + 123);
    const written = await run(vm, ['dd', 'of=/kept', 'bs=64k', 'conv=fsync'], { input: bytes });
    t.equal(written.result.exitCode, 0, written.stderr.text);
    await run(vm, ['sh', '-c', 'while :; do echo x >>/busy; done & exit 0']);
    await vm.stop();
    t.match(await vm.ended, { reason: 'stopped', orderly: true, error: null });
    t.equal(findDamage(disk), '');
    t.equal(sha256(readFileIn(disk, '/upper/kept')), sha256(bytes));
    t.equal(readFileIn(disk, '/upper/more').toString(), 'more\n');
  });

  t.test('is used again as it is; an fsynced file survives a VM that is killed', async (t) => {
    const again = await startTestVm(t, { root: { disk: 64 * MIB }, rootDisk: disk, memoryMiB: 128 });
    t.equal(await shell(again, 'cat /more'), 'more\n');
    const bytes = random.bytes(3 * MIB + 7);
    const written = await run(again, ['dd', 'of=/killed', 'bs=64k', 'conv=fsync'], { input: bytes });
    t.equal(written.result.exitCode, 0, written.stderr.text);
    const [qemu] = findQemu([again.id]) as [number];
    process.kill(qemu, 'SIGKILL');
    t.match(await again.ended, { reason: 'failed', orderly: false, error: { code: 'YAVM_E_QEMU_DIED' } });
    t.not(findDamage(disk), '', 'the journal is not empty: this was no orderly end');
    replayJournal(disk);
    t.equal(findDamage(disk), '', 'and holds all that is needed');
    t.equal(sha256(readFileIn(disk, '/upper/killed')), sha256(bytes));
  });
});

t.test('a disk that is not kept has no name on the host', async (t) => {
  const vm = await startTestVm(t, { root: { disk: 32 * MIB } });
  await shell(vm, 'echo x >/x && sync');
  t.strictSame(
    readdirSync(folder).filter((name) => /disk/.test(name)),
    ['kept.disk'],
  );
  const [qemu] = findQemu([vm.id]) as [number];
  t.match(argumentsOf(qemu).join(' '), 'cache.no-flush=on', 'and waits for no flush');
});

t.test('a root in memory, and a volume in memory', async (t) => {
  const vm = await startTestVm(t, {
    root: { ram: 24 * MIB },
    mounts: [{ kind: 'ram', size: 16 * MIB, path: '/mnt/scratch', mode: 0o1777 }],
    memoryMiB: 192,
  });
  t.equal((await space(vm, '/')).total, 24 * 1024);
  t.equal((await space(vm, '/mnt/scratch')).total, 16 * 1024);
  t.match(await shell(vm, 'grep " /mnt/scratch " /proc/mounts'), /^ram \/mnt\/scratch tmpfs rw,nodev/);
  await overfill(t, vm, '/big', 30);
  await overfill(t, vm, '/mnt/scratch/big', 30);
  t.equal(await shell(vm, 'rm /big /mnt/scratch/big; echo on >/on; cat /on'), 'on\n', 'the VM goes on');
  await vm.mount({ kind: 'ram', size: 4 * MIB, path: '/late' });
  await overfill(t, vm, '/late/big', 8);
  t.ok((await vm.stats()).root.total <= 24 * MIB);
  await vm.stop();
  t.match(await vm.ended, { orderly: true });
});
