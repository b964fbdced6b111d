/** VMs that go on from a template: they are what booted ones are, and nothing of one is in another. */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { truncate, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { sleep } from '../../host/lib/deadline.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import type { Vm, VmSpec } from '../../host/runtime/index.ts';
import { makeTemplate } from '../../host/runtime/template/ahead.ts';
import { RECORD, readRecord, STATE, stampOf } from '../../host/runtime/template/record.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import { loadNative } from '../../native/load.ts';
import { putGuestNet } from '../lib/guest-net.ts';
import { makeImage } from '../lib/images.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { recordingLogger } from '../lib/outbound-vm.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { count } from '../lib/scale.ts';
import { bootAssets, DEMO_IMAGE, type Owner, shell, startTestVm, vmSpec } from '../lib/vm.ts';

// For the file system that is full.
if (process.getuid?.() === 0) inNamespaces(import.meta.url);
t.setTimeout(0);

/** This file, once more, as a process that is killed while it makes one. */
const MAKER = 'YAVM_TEST_TEMPLATE_MAKER';
const making = process.env[MAKER] === '1';
/** Where this file's templates are: a folder of its own, whatever others do. */
const FOLDER = making
  ? (process.env.YA_VM_TEMPLATES as string)
  : mkdtempSync(join(tmpdir(), 'yavm-templates-'));
if (!making) process.on('exit', () => rmSync(FOLDER, { recursive: true, force: true }));
const ENV = { ...process.env, YA_VM_TEMPLATES: FOLDER };
const SHAPE = { assets: bootAssets(), cpus: 1, memoryMiB: 256, accel: vmSpec().accel };
const native = loadNative();

const make = (shape: Partial<typeof SHAPE> = {}, env: NodeJS.ProcessEnv = ENV) =>
  makeTemplate({ ...SHAPE, ...shape }, { env, native, logger: silentLogger });

/** A VM from a template, or none. */
function startRestored(t: Owner, changes: Partial<VmSpec> = {}, env: NodeJS.ProcessEnv = ENV): Promise<Vm> {
  return startTestVm(t, { start: 'template', ...changes }, { env });
}

if (making) {
  await make();
  process.exit(0);
}

t.test('it is made once, and then used', async (t) => {
  const both = await Promise.all([make(), make()]);
  t.strictSame(both.map(({ built }) => built).sort(), [false, true], 'one of two makes it, the other waits');
  t.equal((await make()).built, false);
  const store = new TemplateStore(ENV);
  t.strictSame(store.keys(), [both[0].key]);
  t.equal(await store.verify(both[0].key), null);
  const phases: string[] = [];
  const vm = await startTestVm(t, { start: 'auto' }, { env: ENV, onPhase: ({ name }) => phases.push(name) });
  t.strictSame(phases, ['accelerator', 'disk', 'restore', 'file systems']);
  t.equal(await shell(vm, 'echo on'), 'on\n');
  t.match(readFileSync(join(FOLDER, both[0].key, 'template.json'), 'utf8'), vm.hello.kernel);
});

t.test('each has its own name, clock, addresses and random bytes, and nothing of another', async (t) => {
  const seen = new Map<string, string>();
  const isNew = (value: string, of: string) => {
    const other = seen.get(value);
    seen.set(value, of);
    return other === undefined;
  };
  // The demo image leaves no machine id open.
  const open = join(t.testdir(), 'identity.squashfs');
  makeImage(open, { files: { 'etc/machine-id': '' } });
  const layers = [open, DEMO_IMAGE];
  for (let round = 0; round < count(200); round++) {
    const hostname = `clone-${round}`;
    const vm = await startRestored(t, { hostname, layers, network: { links: [linkOf(round)] } });
    const reads = await randomReads(vm);
    t.equal(reads.length, READS);
    t.equal(reads.filter((bytes) => isNew(bytes, hostname)).length, READS, 'its own random bytes');
    await putGuestNet(vm);
    const before = Date.now();
    const clock = Number(await shell(vm, 'guest-net now'));
    const after = Date.now();
    t.ok(
      clock >= before - CLOCK_ERROR && clock <= after + CLOCK_ERROR,
      `clock: ${clock - before} of ${after - before} ms`,
    );
    const [bootId = '', machineId = '', name, address, disks, mine] = (await shell(vm, FACTS)).split('\n');
    t.ok(isNew(bootId, hostname), 'its own boot id');
    t.match(machineId, /^[0-9a-f]{32}$/);
    t.ok(isNew(machineId, hostname), 'its own machine id');
    t.strictSame([name, address, disks, mine], [hostname, linkOf(round).mac, 'vda vdb vdc ', '0']);
    await vm.stop();
  }
});

/** Milliseconds. */
const CLOCK_ERROR = 50;
/** Of the random pool. */
const READS = 1000;
const FACTS = [
  'cat /proc/sys/kernel/random/boot_id /etc/machine-id; hostname; cat /sys/class/net/eth0/address',
  'ls /sys/block | tr "\\n" " "; echo; ls / | grep -c mine; echo x > /mine',
].join('\n');

/** What the first command of a VM reads, in lines. */
const randomReads = async (vm: Vm) =>
  (await shell(vm, `dd if=/dev/urandom bs=16 count=${READS} 2>/dev/null | od -v -An -tx8`))
    .trim()
    .split('\n');

function linkOf(index: number) {
  const last = (index % 250) + 1;
  return {
    mac: `a0:13:0a:09:00:${last.toString(16).padStart(2, '0')}`,
    name: 'eth0',
    addresses: [`10.9.0.${last}/24`],
  };
}

t.test('eight at once', async (t) => {
  const names = Array.from({ length: 8 }, (_, index) => `one-of-${index}`);
  const links = names.map((_, index) => linkOf(index));
  const vms = await Promise.all(
    names.map((hostname, index) => startRestored(t, { hostname, network: { links: [linkOf(index)] } })),
  );
  const reads = (await Promise.all(vms.map(randomReads))).flat();
  t.equal(reads.length, names.length * READS);
  t.equal(new Set(reads).size, reads.length, 'their own random bytes');
  const addresses = await Promise.all(vms.map((vm) => shell(vm, 'cat /sys/class/net/eth0/address')));
  t.strictSame(
    addresses,
    links.map(({ mac }) => `${mac}\n`),
  );
  const said = await Promise.all(
    vms.map((vm) => shell(vm, 'hostname; cat /proc/sys/kernel/random/boot_id; ls /tmp; touch /tmp/me')),
  );
  t.strictSame(
    said.map((text) => text.split('\n')[0]),
    names,
  );
  t.equal(new Set(said.map((text) => text.split('\n')[1])).size, names.length);
  t.ok(
    said.every((text) => text.split('\n').length === 3),
    'nobody sees what another has made',
  );
  await Promise.all(vms.map((vm) => vm.stop()));
});

t.test('what is counted from the boot on', async (t) => {
  const { key } = await make();
  const store = new TemplateStore(ENV);
  const made = Date.parse(store.list().find(({ record }) => record.key === key)?.record.made ?? '');
  const began = Date.now();
  const vm = await startRestored(t);
  const [uptime = 0, now = 0, after = 0, boot = 0, code, later = 0] = (await shell(vm, TIMES))
    .trim()
    .split('\n')
    .map(Number);
  const ran = (Date.now() - began) / 1000;
  t.comment(`up for ${uptime} s, of a template that is ${(began - made) / 1000} s old`);
  t.ok(uptime > 0, 'it goes on from where the template was');
  t.ok(boot >= now - after - 1 && boot <= now - uptime + 1, "the boot's time goes with clock and uptime");
  t.not(code, 0, 'a time that is up ends what waits for it');
  t.ok(later - uptime >= 1 && later - uptime <= ran + 1, `${later - uptime} s went by, of ${ran}`);
  await vm.stop();
  const again = await startRestored(t);
  const second = Number(await shell(again, 'cut -d" " -f1 /proc/uptime'));
  const most = uptime + (Date.now() - began) / 1000;
  t.ok(second <= most, `up for ${second} s: the time between is in no uptime (at most ${most})`);
  await again.stop();
});

/** Uptime, clock, uptime, the time of the boot, the code of a command that is ended after a second, and uptime; seconds. */
const TIMES = [
  'cut -d" " -f1 /proc/uptime; date +%s; cut -d" " -f1 /proc/uptime; awk "/^btime/ {print \\$2}" /proc/stat',
  'timeout 1 sleep 1000; echo $?; cut -d" " -f1 /proc/uptime',
].join('\n');

t.test('shapes, disks and NICs', async (t) => {
  const shapes = [
    { cpus: 1, memoryMiB: 256, disks: 0, nics: 0 },
    { cpus: 2, memoryMiB: 512, disks: 2, nics: 1 },
    { cpus: 4, memoryMiB: 2048, disks: 4, nics: 2 },
  ];
  for (const { cpus, memoryMiB, disks, nics } of shapes) {
    await make({ cpus, memoryMiB });
    const links = Array.from({ length: nics }, (_, index) => ({ ...linkOf(index), name: `eth${index}` }));
    const volumes = Array.from({ length: disks }, (_, index) => ({
      path: `/disk${index}`,
      size: 16 * 1024 * 1024,
    }));
    const vm = await startRestored(t, { cpus, memoryMiB, disks: volumes, network: { links } });
    const script =
      'nproc; for d in /disk*; do echo $d > $d/own && cat $d/own; done 2>/dev/null; cat /sys/class/net/eth*/address 2>/dev/null; awk "/MemTotal/ {print int(\\$2 / 1024)}" /proc/meminfo';
    const lines = (await shell(vm, script)).trim().split('\n');
    const memory = Number(lines.pop());
    t.strictSame(lines, [String(cpus), ...volumes.map(({ path }) => path), ...links.map(({ mac }) => mac)]);
    t.ok(memory > memoryMiB * 0.75 && memory < memoryMiB, `${memory} of ${memoryMiB} MiB`);
    await vm.stop();
  }
});

/** Of what is for somebody to read. */
function isSaidOnce(t: Test, records: readonly { level: string }[], pattern: object): void {
  const said = records.filter(({ level }) => level === 'info' || level === 'warn' || level === 'error');
  t.equal(said.length, 1, 'said once');
  t.match(said[0], pattern);
}

t.test('a VM that no template fits boots, and says why', async (t) => {
  const { logger, records } = recordingLogger();
  const vm = await startTestVm(t, { start: 'auto', kernelWords: ['yavm.test=1'] }, { env: ENV, logger });
  t.match(await shell(vm, 'cat /proc/cmdline'), 'yavm.test=1');
  isSaidOnce(t, records, {
    level: 'info',
    message: 'the VM boots',
    fields: { reason: /words of its own/ },
  });
  await vm.stop();
  await t.rejects(startRestored(t, { kernelWords: ['yavm.test=1'] }), {
    code: 'YAVM_E_TEMPLATE',
    message: /words of its own/,
  });
});

t.test('a damaged one is never used: the VM has another, or boots', async (t) => {
  const { key } = await make();
  const ram = join(FOLDER, key, 'ram');
  const flip = () => {
    const { atime, mtime } = statSync(ram);
    const fd = openSync(ram, 'r+');
    writeSync(fd, randomBytes(1), 0, 1, 1024 * 1024);
    closeSync(fd);
    return utimes(ram, atime, mtime);
  };
  const harms: [string, () => Promise<void>][] = [
    ['cut short', () => truncate(ram, 1024 * 1024)],
    ['a byte is another', flip],
    ['the state is of another', () => truncate(join(FOLDER, key, 'state'), 1000)],
    ['its record is gone', async () => rmSync(join(FOLDER, key, 'template.json'))],
  ];
  for (const [what, harm] of harms) {
    await make();
    await harm();
    const { logger, records } = recordingLogger();
    const vm = await startTestVm(t, { start: 'auto' }, { env: ENV, logger });
    t.equal(await shell(vm, 'echo right'), 'right\n', what);
    isSaidOnce(t, records, { level: 'warn', message: 'a template is dropped' });
    await vm.stop();
  }
});

t.test('one that QEMU does not take, or whose guest is silent, is dropped, and the VM boots', async (t) => {
  const { key } = await make();
  const state = join(FOLDER, key, 'state');
  // Written as if it had been made so: only QEMU can tell.
  const bytes = readFileSync(state);
  await forge(key, bytes.subarray(0, bytes.length / 2));
  const { logger, records } = recordingLogger();
  const vm = await startTestVm(t, { start: 'auto' }, { env: ENV, logger });
  t.equal(await shell(vm, 'echo right'), 'right\n');
  isSaidOnce(t, records, { level: 'warn', message: /not restored/, fields: { template: key } });
  t.notOk(existsSync(join(FOLDER, key)), 'dropped');
  await vm.stop();
});

/** Another state, with a record that fits. */
async function forge(key: string, bytes: Uint8Array): Promise<void> {
  const folder = join(FOLDER, key);
  const record = readRecord(join(folder, RECORD));
  writeFileSync(join(folder, STATE), bytes);
  const stamp = stampOf(statSync(join(folder, STATE), { bigint: true }));
  writeFileSync(join(folder, RECORD), JSON.stringify({ ...record, state: { ...record.state, stamp } }));
}

t.test('removed while VMs use it: they go on', async (t) => {
  const { key } = await make();
  const vm = await startRestored(t);
  new TemplateStore(ENV).drop(key);
  t.equal(
    await shell(vm, 'dd if=/dev/zero of=/tmp/full bs=1M count=64 2>/dev/null; wc -c < /tmp/full'),
    '67108864\n',
  );
  await vm.stop();
});

const needsRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root, for a small file system' };
t.test('no room for one: the VM boots, and the folder is as it was', needsRoot, async (t) => {
  const small = ramFolders(t, '32m')();
  const { logger, records } = recordingLogger();
  const env = { ...ENV, YA_VM_TEMPLATES: small };
  const vm = await startTestVm(t, { start: 'auto' }, { env, logger });
  t.equal(await shell(vm, 'echo right'), 'right\n');
  isSaidOnce(t, records, { level: 'info', message: 'the VM boots', fields: { reason: /MiB are free/ } });
  t.strictSame(new TemplateStore(env).keys(), []);
  await vm.stop();
});

t.test('it holds nothing of what VMs got', async (t) => {
  const { key } = await make();
  const secret = randomBytes(24).toString('hex');
  const vm = await startRestored(t, { hostname: 'secretive' });
  await shell(vm, `echo ${secret} > /dev/shm/x; echo ${secret} > /y; sync`);
  const ram = join(FOLDER, key, 'ram');
  const found = (text: string) =>
    spawnSync('grep', ['-c', '-a', '-F', text, ram], { encoding: 'utf8' }).stdout.trim();
  t.strictSame([found(secret), found('secretive')], ['0', '0']);
  t.not(found('Linux version'), '0', 'grep does look there');
  await vm.stop();
  t.equal(await new TemplateStore(ENV).verify(key), null, 'not a byte of it has changed');
});

t.test('kill -9 of who makes one', async (t) => {
  const store = new TemplateStore(ENV);
  // Runs and temporary files are this test's alone, so that nothing else is among them.
  const [runs, temporary] = [mkdtempSync('/tmp/yavm-'), mkdtempSync('/tmp/yavm-')];
  t.teardown(() => {
    for (const folder of [runs, temporary]) rmSync(folder, { recursive: true, force: true });
  });
  chmodSync(temporary, 0o711);
  const env = { ...ENV, XDG_RUNTIME_DIR: runs };
  for (const key of store.keys()) store.drop(key);
  const began = performance.now();
  await make();
  const whole = performance.now() - began;
  for (let round = 0; round < count(20); round++) {
    for (const key of store.keys()) store.drop(key);
    const child = spawn(process.execPath, [...process.execArgv, import.meta.filename], {
      env: { ...env, TMPDIR: temporary, [MAKER]: '1' },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    // It may be done before it is killed.
    const ended = once(child, 'exit');
    await sleep(Math.random() * 1.2 * whole);
    child.kill('SIGKILL');
    await ended;
    for (const { key } of store.list().map(({ record }) => record))
      t.equal(await store.verify(key), null, 'whole or not there');
    const vm = await startRestored(t, {}, env);
    t.equal(await shell(vm, 'echo right'), 'right\n');
    await vm.stop();
    const left = readdirSync(FOLDER).filter((name) => name.startsWith('.'));
    t.strictSame([...left, ...readdirSync(temporary)], [], 'nothing is left');
    t.strictSame(readdirSync(join(runs, 'ya-vm')), [], 'nor of its VM');
  }
});
