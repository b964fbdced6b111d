/** What can go wrong with a template while VMs want to start from it: they boot, or have another, and say why once. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { sleep } from '../../host/lib/deadline.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { findProgram } from '../../host/lib/programs.ts';
import type { StartOptions, Vm, VmSpec } from '../../host/runtime/index.ts';
import { makeTemplate } from '../../host/runtime/template/ahead.ts';
import { RAM, RECORD, readRecord, STATE, stampOf } from '../../host/runtime/template/record.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import { loadNative } from '../../native/load.ts';
import { putGuestNet } from '../lib/guest-net.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { recordingLogger } from '../lib/outbound-vm.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { bootAssets, type Owner, shell, startTestVm, vmSpec } from '../lib/vm.ts';

const root = process.getuid?.() === 0;
/** This file, once more, on a host that has been asleep. */
const SLEPT = 'YAVM_TEST_TEMPLATE_SLEPT';
const slept = process.env[SLEPT] === '1';
// For the file system that is full.
if (root && !slept) inNamespaces(import.meta.url);
t.setTimeout(0);

const MIB = 1024 ** 2;
/** Milliseconds. */
const CLOCK_ERROR = 50;
const SHAPE = { assets: bootAssets(), cpus: 1, memoryMiB: 256, accel: vmSpec().accel };
const native = loadNative();

type Environment = Record<string, string | undefined>;

const FOLDER = slept
  ? (process.env.YA_VM_TEMPLATES as string)
  : mkdtempSync(join(tmpdir(), 'yavm-templates-'));
if (!slept) process.on('exit', () => rmSync(FOLDER, { recursive: true, force: true }));
const ENV: Environment = { ...process.env, YA_VM_TEMPLATES: FOLDER };

const make = (env: Environment = ENV, changes: Partial<typeof SHAPE> = {}) =>
  makeTemplate({ ...SHAPE, ...changes }, { env, native, logger: silentLogger });

/** A VM that may boot, and what was logged at `info` or above. */
async function startLogged(
  t: Owner,
  env: Environment = ENV,
  options: StartOptions = {},
  spec: Partial<VmSpec> = {},
) {
  const { logger, records } = recordingLogger();
  const vm = await startTestVm(t, { start: 'auto', ...spec }, { env, logger, ...options });
  return { vm, said: records.filter(({ level }) => level === 'info' || level === 'warn') };
}

/** How far the guest's clock is outside of what the host's was before and after the question, milliseconds: 0, it is within. */
async function clockError(vm: Vm): Promise<number> {
  await putGuestNet(vm);
  const before = Date.now();
  const guest = Number(await shell(vm, 'guest-net now'));
  return Math.max(0, before - guest, guest - Date.now());
}

if (slept) {
  const { vm, said } = await startLogged({ teardown: () => {} });
  console.log(JSON.stringify({ start: vm.start, said, error: await clockError(vm) }));
  await vm.stop();
  process.exit(0);
}

/** A QEMU of a file of its own, which does something else when a file is there. */
function wrappedQemu(t: Owner): { program: string; when(name: string, holds: boolean): void } {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-qemu-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // QEMU's user looks at it, too.
  chmodSync(folder, 0o755);
  const program = join(folder, 'qemu');
  const real = findProgram('qemu-system-x86_64');
  const lines = [
    '#!/bin/sh',
    'case "$*" in *" -incoming "*)',
    `  test -e ${folder}/hangs && exec sleep 1000`,
    `  test -e ${folder}/silent && exec ${real} "$@" -S`,
    'esac',
    `exec ${real} "$@"`,
  ];
  writeFileSync(program, `${lines.join('\n')}\n`, { mode: 0o755 });
  const before = process.env.YAVM_QEMU;
  process.env.YAVM_QEMU = program;
  t.teardown(() => {
    if (before === undefined) delete process.env.YAVM_QEMU;
    else process.env.YAVM_QEMU = before;
  });
  const when = (name: string, holds: boolean) =>
    holds ? writeFileSync(join(folder, name), '') : rmSync(join(folder, name), { force: true });
  return { program, when };
}

const right = async (t: Test, vm: Vm, what: string) => {
  t.equal(await shell(vm, 'echo right'), 'right\n', what);
  await vm.stop();
};

/** A pattern of a list lets more of it pass. */
function isSaidOnce(t: Test, said: readonly object[], pattern: object): void {
  t.equal(said.length, 1, 'said once');
  t.match(said[0], pattern);
}

t.test('another QEMU has another; one that hangs or stays silent does not hold a VM up', async (t) => {
  const { key } = await make();
  const { program, when } = wrappedQemu(t);
  const env = { ...ENV, YAVM_QEMU: program };
  const store = new TemplateStore(env);
  const first = await startLogged(t, env);
  t.strictSame([first.vm.start, first.said], ['template', []]);
  await right(t, first.vm, 'made by it and for it');
  const [other = ''] = store.keys().filter((each) => each !== key);
  t.equal(store.keys().length, 2);
  for (const fault of ['hangs', 'silent']) {
    await make(env);
    when(fault, true);
    const { vm, said } = await startLogged(t, env);
    when(fault, false);
    t.equal(vm.start, 'boot', fault);
    isSaidOnce(t, said, { level: 'warn', message: /not restored/, fields: { template: other } });
    t.strictSame(store.keys(), [key], `${fault}: dropped, and no other`);
    await right(t, vm, fault);
  }
});

t.test('a VM with a folder of the host boots beside it', async (t) => {
  await make();
  const hostPath = t.testdir({ file: 'of the host' });
  const { vm, said } = await startLogged(t, ENV, {}, { shares: [{ hostPath, path: '/folder' }] });
  t.equal(vm.start, 'boot');
  isSaidOnce(t, said, { level: 'info', message: 'the VM boots', fields: { reason: /folders/ } });
  t.equal(await shell(vm, 'cat /folder/file'), 'of the host');
  await vm.stop();
});

t.test('one that was made with another CPU or memory, under this name', async (t) => {
  const { key } = await make();
  const store = new TemplateStore(ENV);
  const { key: large } = await make(ENV, { memoryMiB: 320 });
  // As a whole, and then with a record that says what it is not.
  for (const lies of [false, true]) {
    await make(ENV, { memoryMiB: 320 });
    store.drop(key);
    renameSync(store.path(large), store.path(key));
    const path = join(store.path(key), RECORD);
    const record = { ...readRecord(path), key, ...(lies ? { memoryMiB: SHAPE.memoryMiB } : {}) };
    writeFileSync(path, JSON.stringify(record));
    const { vm, said } = await startLogged(t);
    t.equal(vm.start, lies ? 'boot' : 'template', 'one of its own is made where it was seen in time');
    isSaidOnce(t, said, { level: 'warn', message: lies ? /not restored/ : 'a template is dropped' });
    await right(t, vm, `lies: ${lies}`);
  }
});

t.test('a memory that is empty, with a record that fits', async (t) => {
  const { key } = await make();
  const folder = new TemplateStore(ENV).path(key);
  execFileSync('truncate', ['-s', '0', join(folder, RAM)]);
  execFileSync('truncate', ['-s', String(SHAPE.memoryMiB * MIB), join(folder, RAM)]);
  const record = readRecord(join(folder, RECORD));
  const stamp = stampOf(statSync(join(folder, RAM), { bigint: true }));
  writeFileSync(join(folder, RECORD), JSON.stringify({ ...record, ram: { ...record.ram, stamp } }));
  const { vm, said } = await startLogged(t);
  t.equal(vm.start, 'boot');
  isSaidOnce(t, said, { level: 'warn', message: /not restored/, fields: { template: key } });
  t.notOk(existsSync(folder), 'dropped');
  await right(t, vm, 'empty');
});

t.test("its files are the user's alone", async (t) => {
  const { key } = await make();
  const store = new TemplateStore(ENV);
  store.countStart(key);
  const mode = (path: string) => statSync(path).mode & 0o777;
  t.strictSame([mode(FOLDER), mode(store.path(key))], [0o700, 0o700]);
  const files = readdirSync(store.path(key)).sort();
  t.strictSame(files, [RAM, 'starts', STATE, RECORD].sort(), 'and nothing else is there');
  for (const name of files) t.equal(mode(join(store.path(key), name)), 0o600, name);
});

const needsRoot = root ? {} : { skip: 'needs root, for a small file system' };
t.test('the disk is full while it is written', needsRoot, async (t) => {
  const small = ramFolders(t, '300m')();
  const env = { ...ENV, YA_VM_TEMPLATES: small };
  const filler = join(small, 'filler');
  const isBuilding = () => readdirSync(small).some((name) => existsSync(join(small, name, RAM)));
  // More than a guest's kernel writes before it can say hello.
  const fill = setInterval(() => {
    if (isBuilding() && takeRoom(small, filler, 16 * MIB)) clearInterval(fill);
  }, 5);
  t.teardown(() => clearInterval(fill));
  const { vm, said } = await startLogged(t, env);
  t.equal(vm.start, 'boot');
  isSaidOnce(t, said, { level: 'info', message: 'the VM boots' });
  t.ok(existsSync(filler), 'it was full');
  await right(t, vm, 'full');
  t.strictSame(
    readdirSync(small).filter((name) => !/\.(lock|failed)$/.test(name)),
    ['filler'],
    'nothing is left of it',
  );
  rmSync(filler);
  t.equal((await make(env)).built, true, 'and with room again it is made');
});

/** Leaves `rest` bytes of a small file system. False: a guest was writing, and took it first. */
function takeRoom(folder: string, filler: string, rest: number): boolean {
  const { bavail, bsize } = statfsSync(folder);
  try {
    execFileSync('fallocate', ['-l', String(Math.max(MIB, bavail * bsize - rest)), filler], {
      stdio: 'ignore',
    });
    return true;
  } catch {
    return false;
  }
}

t.test('a VM that stood still during its start has the right clock', async (t) => {
  await make();
  /** Milliseconds. */
  const still = 1000;
  const ways: [string, (vm: Vm) => Promise<unknown>][] = [
    ['QEMU was stopped', () => sleep(still)],
    [
      'the machine was stopped',
      async (vm) => {
        const stopped = vm.monitor.execute('stop');
        // What it finds first when it goes on.
        await sleep(100);
        process.kill(vm.pid, 'SIGCONT');
        await stopped;
        await sleep(still);
        await vm.monitor.execute('cont');
      },
    ],
  ];
  for (const [what, halt] of ways) {
    let halted: Promise<unknown> = Promise.resolve();
    const onVm = (vm: Vm) => {
      process.kill(vm.pid, 'SIGSTOP');
      halted = halt(vm).finally(() => process.kill(vm.pid, 'SIGCONT'));
    };
    const { vm, said } = await startLogged(t, ENV, { onVm });
    await halted;
    t.strictSame([vm.start, said], ['template', []], what);
    const error = await clockError(vm);
    t.ok(error <= CLOCK_ERROR, `${what}: ${error} ms`);
    await right(t, vm, what);
  }
});

/** Seconds that the host was asleep: its CLOCK_BOOTTIME counts them, CLOCK_MONOTONIC does not. */
const ASLEEP = 86_400;
const UNSHARE = ['--time', '--boottime', String(ASLEEP), '--fork', '--kill-child', '--'];
const canSleep = root && spawnSync('unshare', [...UNSHARE, 'true']).status === 0;
const needsTime = canSleep ? {} : { skip: 'needs root, and a kernel with namespaces of time' };
t.test('the host was suspended since it was made', needsTime, async (t) => {
  await make();
  const child = spawn('unshare', [...UNSHARE, process.execPath, ...process.execArgv, import.meta.filename], {
    env: { ...ENV, [SLEPT]: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const { start, said, error } = JSON.parse(await text(child.stdout));
  t.strictSame([start, said], ['template', []], 'it is as good as it was');
  t.ok(error <= CLOCK_ERROR, `the guest's clock: ${error} ms`);
  t.strictSame(await ended, [0, null]);
});
