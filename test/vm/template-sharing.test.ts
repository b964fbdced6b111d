/** What VMs of one template have in common, as the host counts it; and templates that are made anew. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Machines } from '../../host/exe-unit/machines.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import type { Vm, VmSpec } from '../../host/runtime/index.ts';
import { makeTemplate } from '../../host/runtime/template/ahead.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import { type ProcessUsage, readProcessUsage } from '../../host/usage/process.ts';
import { loadNative } from '../../native/load.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { recordingLogger } from '../lib/outbound-vm.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { bootAssets, type Owner, shell, startTestVm, vmSpec } from '../lib/vm.ts';

const root = process.getuid?.() === 0;
// For templates on a tmpfs.
if (root) inNamespaces(import.meta.url);
t.setTimeout(0);

const MIB = 1024 ** 2;
const SHAPE = { assets: bootAssets(), cpus: 1, memoryMiB: 256, accel: vmSpec().accel };

type Environment = Record<string, string | undefined>;

/** With a folder of templates that is this test's own. */
function environment(t: Owner, more: Environment = {}): Environment {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-templates-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return { ...process.env, YA_VM_TEMPLATES: folder, ...more };
}

const make = (env: Environment) => makeTemplate(SHAPE, { env, native: loadNative(), logger: silentLogger });

function start(t: Owner, env: Environment, choice: VmSpec['start']): Promise<Vm> {
  return startTestVm(t, { start: choice }, { env });
}

function usageOf(vm: Vm): ProcessUsage {
  const usage = readProcessUsage(vm.pid, vm.start);
  if (usage === null) throw new Error('its QEMU is gone');
  return usage;
}

/** Each process's part of the pages that it maps, bytes. */
function proportional(vm: Vm): number {
  const rollup = readFileSync(`/proc/${vm.pid}/smaps_rollup`, 'latin1');
  return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1]) * 1024;
}

/** Pages of the template that a VM has read and not written, bytes. */
function untouchedBy({ pid }: Vm, { YA_VM_TEMPLATES: folder = '' }: Environment): number {
  const mappings = readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const guest = mappings.find((mapping) => mapping.split('\n', 1)[0]?.includes(folder)) ?? '';
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(guest)?.[1]);
  return (kilobytes('Rss') - kilobytes('Anonymous')) * 1024;
}

const inMiB = (bytes: number) => `${(bytes / MIB).toFixed(1)} MiB`;

t.test('VMs of one template share its pages; what one writes is its own', async (t) => {
  const env = environment(t);
  await make(env);
  const cold = await start(t, env, 'cold');
  const [one, other] = [await start(t, env, 'template'), await start(t, env, 'template')];
  t.strictSame([cold.start, one.start, other.start], ['boot', 'template', 'template']);
  t.match(JSON.parse(readFileSync(join(one.folder, 'vm.json'), 'utf8')), { start: 'template' });
  const machines = new Machines();
  for (const vm of [one, other]) machines.add(vm, () => {});

  const [booted, restored] = [usageOf(cold), usageOf(one)];
  t.ok(restored.memory < booted.memory, 'it has taken less');
  const untouched = untouchedBy(one, env);
  t.ok(
    untouched > 4 * MIB && untouched <= usageOf(one).shared,
    "the template's pages are in the shared part",
  );
  t.comment(`of the template ${inMiB(untouched)} as it was made`);
  for (const vm of [cold, one, other]) {
    const { memory, shared } = usageOf(vm);
    t.comment(`${vm.start}: ${inMiB(memory)} own, ${inMiB(shared)} shared, PSS ${inMiB(proportional(vm))}`);
  }

  const before = machines.usage();
  const [mine, others] = [usageOf(one).memory, usageOf(other).memory];
  await shell(one, 'dd if=/dev/urandom of=/dev/shm/x bs=1M count=64 2>/dev/null');
  t.ok(usageOf(one).memory >= mine + 60 * MIB, 'it took what it has written');
  t.ok(usageOf(other).memory < others + 32 * MIB, 'its neighbour did not');
  const after = machines.usage();
  t.ok(after.memory >= before.memory + 60 * MIB && after.memoryPeak >= after.memory);
  t.ok(after.memoryPeak < after.memory + after.shared, 'shared pages are in no peak');
});

const needsRoot = root ? {} : { skip: 'needs root, to mount a tmpfs' };
t.test(
  'a template on a tmpfs is shared as well, though its pages count as shared memory',
  needsRoot,
  async (t) => {
    const env = { ...process.env, YA_VM_TEMPLATES: ramFolders(t, '600m')() };
    await make(env);
    const vm = await start(t, env, 'template');
    const { memory, shared } = usageOf(vm);
    t.ok(memory < (readProcessUsage(vm.pid, 'boot')?.memory ?? 0), 'not all shared memory is its own');
    t.comment(`${inMiB(memory)} own, ${inMiB(shared)} shared`);
  },
);

/** Where PID 1's stack and heap are: drawn by lot at each boot. */
const layout = (vm: Vm) => shell(vm, 'grep -E "heap|stack|vdso" /proc/1/maps');

t.test('made anew after so many starts, and nobody boots meanwhile', async (t) => {
  const { logger, records } = recordingLogger();
  const env = environment(t, { YA_VM_TEMPLATES_RENEW_STARTS: '2' });
  const store = new TemplateStore(env);
  const { key } = await make(env);
  const made = () => store.list().map(({ record }) => record.made);
  const [first] = made();
  const [one, other] = [await start(t, env, 'template'), await start(t, env, 'template')];
  t.equal(await layout(one), await layout(other), 'what all of one template have in common');
  t.match(store.list(), [{ starts: 2, due: /2 VMs/ }]);
  t.strictSame(made(), [first]);

  const startLogged = () => startTestVm(t, { start: 'auto' }, { env, logger });
  const vms = await Promise.all([startLogged(), startLogged(), startLogged()]);
  t.strictSame(
    vms.map(({ start }) => start),
    ['template', 'template', 'template'],
  );
  const said = records.filter(({ level }) => level === 'info' || level === 'warn');
  t.equal(said.length, 1, 'by one of them; nothing else happened');
  t.match(said[0], { message: 'a template was made anew', fields: { template: key, reason: /2 VMs/ } });
  t.strictSame(store.keys(), [key]);
  t.not(made()[0], first);
  t.equal(await store.verify(key), null);
  const newest = await start(t, environment(t, { YA_VM_TEMPLATES: env.YA_VM_TEMPLATES }), 'template');
  t.not(await layout(newest), await layout(one), 'and what it was before, others have no more');
  t.equal(await shell(one, 'echo on'), 'on\n', 'VMs of the old one go on');
});

t.test('made anew when it is old; where that fails the old one is used', async (t) => {
  const env = environment(t, { YA_VM_TEMPLATES_RENEW: '1h' });
  const { key } = await make(env);
  t.equal((await make(env)).built, false);
  const store = new TemplateStore({ ...env, YA_VM_TEMPLATES_RENEW: '1ms' });
  t.match(store.due(key), /old/);
  const old = { ...env, YA_VM_TEMPLATES_RENEW: '1ms' };
  t.equal((await make(old)).built, true);
  const made = store.list()[0]?.record.made;
  store.noteFailure(key, 'lately');
  const vm = await startTestVm(t, { start: 'auto' }, { env: old });
  t.equal(vm.start, 'template');
  t.equal(store.list()[0]?.record.made, made, 'it is not tried again at once');
  t.equal((await make(old)).built, true, 'but for who insists');
});
