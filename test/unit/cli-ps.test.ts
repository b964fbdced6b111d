import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ps } from '../../host/cli/ps.ts';
import { choose, stopVm } from '../../host/cli/stop.ts';
import { decodeRecord, listVms, selectVm } from '../../host/cli/vms.ts';
import { isAlive, startTimeOf } from '../../host/lib/process.ts';
import type { VmRecord } from '../../host/runtime/types.ts';
import { testContext } from '../lib/cli.ts';

const own = { pid: process.pid, startTime: startTimeOf(process.pid) as number };

function record(change: Partial<VmRecord> = {}): VmRecord {
  return {
    id: 'tobikuda',
    title: 'demo.gvmi: sleep 60',
    supervisor: own,
    qemu: null,
    state: 'running',
    started: new Date(Date.now() - 65_000).toISOString(),
    memoryMiB: 512,
    cpus: 1,
    accel: 'tcg',
    start: 'boot',
    layers: ['/x/demo.gvmi'],
    hostname: 'golem',
    console: null,
    ...change,
  };
}

function baseWith(t: { teardown(fn: () => void): void }, records: Record<string, unknown>): string {
  const base = mkdtempSync(join(tmpdir(), 'yavm-ps-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(records)) {
    mkdirSync(join(base, name));
    if (content === null) continue;
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    writeFileSync(join(base, name, 'vm.json'), text);
  }
  return base;
}

t.test('VMs whose supervisor lives are listed, oldest first; debris is not', async (t) => {
  const base = baseWith(t, {
    tobikuda: record(),
    bakutiro: record({ id: 'bakutiro', started: '2020-01-01T00:00:00Z' }),
    gone: record({ id: 'gone', supervisor: { ...own, startTime: own.startTime - 1 } }),
    renamed: record({ id: 'another' }),
    empty: null,
    broken: '{"id":',
    foreign: '{"id":"foreign"}',
    list: '[]',
  });
  const vms = await listVms(base);
  t.same(
    vms.map(({ record }) => record.id),
    ['bakutiro', 'tobikuda'],
  );
  t.equal(vms[1]?.folder, join(base, 'tobikuda'));
  t.same(await listVms(join(base, 'nowhere')), []);
});

t.test('a folder that cannot be read is an error with its path', async (t) => {
  const base = baseWith(t, {});
  writeFileSync(join(base, 'file'), '');
  await t.rejects(listVms(join(base, 'file')), { code: 'YAVM_E_RUN_FOLDER', message: /file/ });
});

t.test('ps prints a table, ids, or JSON', async (t) => {
  const base = baseWith(t, { tobikuda: record({ title: 'a\u001b[2J\n b' }) });
  const table = testContext();
  t.equal(await ps(table, {}, base), 0);
  const lines = table.out().trimEnd().split('\n');
  t.match(lines[0], /^ID +STATE +UP +MEMORY +CPUS +ACCEL +PID +TITLE$/);
  t.match(lines[1], /^tobikuda +running +1 min [5-9] s +512 MiB +1 +tcg +\d+ +a\\x1b\[2J b$/);
  t.equal(lines.length, 2);

  const quiet = testContext();
  await ps(quiet, { quiet: true }, base);
  t.equal(quiet.out(), 'tobikuda\n');

  const json = testContext();
  await ps(json, { json: true }, base);
  t.match(JSON.parse(json.out()), [
    { id: 'tobikuda', folder: join(base, 'tobikuda'), memoryMiB: 512, start: 'boot', host: null },
  ]);
  const running = testContext();
  await ps(running, { json: true }, baseWith(t, { tobikuda: record({ qemu: own }) }));
  const [{ host }] = JSON.parse(running.out()) as [{ host: Record<string, number> }];
  t.ok(
    (host.memory ?? 0) > 0 && (host.shared ?? 0) > 0 && (host.cpuSeconds ?? 0) > 0,
    'what its process takes',
  );
});

t.test('ps without VMs prints the head alone, and an empty list', async (t) => {
  const base = baseWith(t, {});
  const [table, json, quiet] = [testContext(), testContext(), testContext()];
  await ps(table, {}, base);
  await ps(json, { json: true }, base);
  await ps(quiet, { quiet: true }, base);
  t.equal(table.out().split('\n').length, 2);
  t.same(JSON.parse(json.out()), []);
  t.equal(quiet.out(), '');
});

t.test('a VM is named by its id, a unique beginning, or by being the only one', async (t) => {
  const vms = ['toba', 'tobi', 'tobikuda'].map((id) => ({ record: record({ id }), folder: `/r/${id}` }));
  t.equal(selectVm(vms, 'tobik').record.id, 'tobikuda');
  t.equal(selectVm(vms, 'tobi').record.id, 'tobi', 'a whole id wins over a longer one');
  t.equal(selectVm(vms.slice(0, 1), undefined).record.id, 'toba');
  t.throws(() => selectVm(vms, 'tob'), { code: 'YAVM_E_AMBIGUOUS_VM', message: /toba, tobi, tobikuda/ });
  t.throws(() => selectVm(vms, undefined), { code: 'YAVM_E_AMBIGUOUS_VM' });
  t.throws(() => selectVm(vms, 'x'), { code: 'YAVM_E_NO_SUCH_VM', message: /'x'/ });
  t.throws(() => selectVm([], undefined), { code: 'YAVM_E_NO_SUCH_VM', hint: 'See: ya-vm ps' });
});

t.test('a record with any field wrong is none', async (t) => {
  t.same(decodeRecord(record()), record());
  const wrong: Partial<Record<keyof VmRecord, unknown>> = {
    id: 1,
    title: null,
    supervisor: { pid: 0, startTime: 1 },
    qemu: { pid: 5 },
    state: 'sleeping',
    started: 5,
    memoryMiB: '512',
    cpus: -1,
    accel: 'xen',
    start: 'resume',
    layers: [1],
    hostname: undefined,
    console: 5,
  };
  for (const [field, value] of Object.entries(wrong)) {
    t.equal(decodeRecord({ ...record(), [field]: value }), null, field);
  }
  for (const value of [null, 'x', 5, []]) t.equal(decodeRecord(value), null);
  const { start: _, ...older } = record();
  t.same(decodeRecord(older), record(), 'before there were templates, every VM booted');
});

t.test('stop names VMs or all of them, each once', async (t) => {
  const vms = ['toba', 'bakutiro'].map((id) => ({ record: record({ id }), folder: `/r/${id}` }));
  t.same(choose(vms, [], true), vms);
  t.same(choose(vms, ['ba', 'bakutiro'], false), [vms[1]]);
  t.throws(() => choose(vms, [], false), { code: 'YAVM_E_USAGE' });
});

/** A process that answers SIGTERM as `script` says. */
async function supervisor(
  t: { teardown(fn: () => void): void },
  script: string,
): Promise<ChildProcess & { pid: number }> {
  const child = spawn(process.execPath, [
    '-e',
    `${script}; setInterval(() => {}, 1000); process.stdout.write('up')`,
  ]);
  t.teardown(() => void child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child as ChildProcess & { pid: number };
}

/** It is told in time, however late it hears. */
const LONG = 60_000;

for (const [name, script, signal, grace, killTime] of [
  ['one that ends on SIGTERM', 'process.on("SIGTERM", () => process.exit(3))', null, LONG, LONG],
  [
    'one that needs to be told twice',
    'let n = 0; process.on("SIGTERM", () => { if (++n === 2) process.exit(3) })',
    null,
    // Signals that come before it looks are one.
    3000,
    LONG,
  ],
  ['one that does not listen', 'process.on("SIGTERM", () => {})', 'SIGKILL', 100, 200],
] as const) {
  t.test(`stop ends a supervisor: ${name}`, async (t) => {
    const child = await supervisor(t, script);
    const identity = { pid: child.pid, startTime: startTimeOf(child.pid) as number };
    const ended = new Promise((resolve) => child.once('exit', (_code, ending) => resolve(ending)));
    await stopVm({ record: record({ supervisor: identity }), folder: '/r' }, { grace, killTime });
    t.equal(await ended, signal);
    t.equal(isAlive(identity), false);
  });
}

t.test('stop does not touch a process that got the pid of a supervisor', async (t) => {
  const child = await supervisor(t, 'process.on("SIGTERM", () => process.exit(3))');
  const startTime = startTimeOf(child.pid) as number;
  const recycled = { pid: child.pid, startTime: startTime - 1 };
  await stopVm({ record: record({ supervisor: recycled }), folder: '/r' }, { grace: 100, killTime: 200 });
  t.equal(isAlive({ pid: child.pid, startTime }), true);
});
