import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Flex } from '../../host/gsb/types.ts';
import { buildAgreement } from '../../host/node/agreement-file.ts';
import type { RuntimeEvent } from '../../host/node/messages.ts';
import { readProcessUsage } from '../../host/usage/process.ts';
import { begin, logOf, perform, sh, VECTOR } from '../lib/exe-unit-activity.ts';
import { roomFor, SUPERVISOR_ENDS, tookAtMost } from '../lib/in-time.ts';
import { findProcesses, findQemu, waitUntil } from '../lib/processes.ts';
import { soak } from '../lib/scale.ts';
import { privateEnvironment } from '../lib/vm.ts';
import { ACCEL, runCli, startCli } from '../lib/ya-vm.ts';

const LONG = { timeout: 400_000 };
const GIB = 1024 ** 3;

t.test('deploy, start, run, stream, results, terminate, SIGTERM', LONG, async (t) => {
  const { activity, requestor, vms, events, fetched, environment } = await begin(t);
  const script: Flex[] = [
    {
      deploy: {
        env: { TOKEN: 'very-secret-value' },
        hosts: { peer: '10.1.2.3' },
        hostname: 'box',
        volumes: ['/data'],
      },
    },
    { start: {} },
    sh('echo "$TOKEN $0 $(hostname) $(pwd)"; grep -w peer /etc/hosts; ls -d /data; echo oops >&2; exit 3'),
  ];
  const batch = await requestor.exec(script);
  const streamed: RuntimeEvent[] = [];
  for await (const event of requestor.stream(batch)) streamed.push(event);
  const text = (kind: 'stdout' | 'stderr') =>
    streamed.flatMap((event) => (event.kind === kind ? [event.output] : [])).join('');
  t.match(text('stdout'), /^very-secret-value sh box \/\S*\n10\.1\.2\.3\s+peer\n\/data\n$/);
  t.equal(text('stderr'), 'oops\n');
  t.match(streamed.at(-1), { kind: 'finished', index: 2, returnCode: 3 });
  const results = await requestor.finished(batch);
  t.match(results, [
    { ok: true },
    { ok: true },
    { ok: false, stdout: text('stdout'), isBatchFinished: true },
  ]);
  t.equal(fetched(), 1);

  t.match(await perform(requestor, [{ run: { entry_point: '/no/such/program' } }]), [
    { ok: false, message: /ENOENT|not found/i },
  ]);
  t.match(await perform(requestor, [{ transfer: { from: 'ftp://h/x', to: 'container:/x' } }]), [
    { ok: false, message: /YAVM_E_UNSUPPORTED/ },
  ]);

  const [id] = vms();
  t.ok(id, 'its run folder is there');
  const attached = await runCli(t, ['shell', id as string, '-c', 'echo from the shell'], {
    env: environment,
  });
  t.equal(attached.stdout.toString(), 'from the shell\n');

  // Again from the start, with the image from the cache.
  t.match(await perform(requestor, [{ terminate: {} }]), [{ ok: true }]);
  t.equal(findQemu([id as string]).length, 0);
  t.match(await perform(requestor, [{ deploy: {} }, { start: {} }, sh('echo again', false)]), [
    {},
    {},
    { ok: true, stdout: 'again\n' },
  ]);
  t.equal(fetched(), 1);

  const ids = vms();
  const began = performance.now();
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  tookAtMost(t, 'the end', performance.now() - began, 4000);
  t.match(activity.record, {
    state: ['Terminated', null],
    reason: /^Interrupted by signal: 15: \{"batches_done":5,/,
  });
  t.same(readdirSync(activity.workFolder), ['logs']);
  t.same(vms(), []);
  t.same(findQemu(ids), []);

  const vectors = events.flatMap((event) => (event.kind === 'usage' ? [event.usage as number[]] : []));
  t.ok(
    vectors.every((vector, index) => vector.every((value, at) => value >= (vectors[index - 1]?.[at] ?? 0))),
    'the vector never falls, over two machines',
  );
  const [cpu = 0, , memory = 0, storage = 0] = vectors.at(-1) as number[];
  t.ok(cpu > 1, `${cpu} s of CPU`);
  t.ok(memory > 0.05 && memory < 0.6, `${memory} GiB`);
  t.ok(storage > 0 && storage < 0.25, `${storage} GiB`);

  const log = logOf(activity);
  for (const secret of ['very-secret-value', 'pass-word', 'joe:']) t.notOk(log.includes(secret), secret);
  t.match(log, /"phase":"(kernel|restore)"/);
});

t.test('CPU and storage are what the kernel says, within 2 %', LONG, async (t) => {
  const { activity, requestor, vms } = await begin(t);
  await perform(requestor, [{ deploy: {} }, { start: {} }]);
  const [qemu] = findQemu(vms());
  const before = await requestor.usage();
  const cpuBefore = readProcessUsage(qemu as number)?.cpuSeconds ?? 0;
  await perform(requestor, [sh('i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done')]);
  await perform(requestor, [sh('dd if=/dev/urandom of=/big bs=1M count=48 && sync')]);
  const [cpu = 0, , memory = 0, storage = 0] = (await requestor.usage()).current as number[];
  const clock = schedstat(qemu as number);
  t.ok(Math.abs(cpu - clock) <= 0.02 * clock + 0.02, `${cpu} s against ${clock} s of all threads`);
  t.ok(cpu - (before.current?.[0] ?? 0) > 0 && cpuBefore > 0);
  // It has no folders of the host: what shared memory it has is a template's.
  const { memory: own = 0, residentPeak = 0 } = readProcessUsage(qemu as number, 'template') ?? {};
  t.ok(memory * GIB >= 0.98 * own && memory * GIB < residentPeak, `${memory} GiB, ${own} bytes now`);
  t.ok(
    storage * GIB > 48 * 2 ** 20 && storage * GIB < 80 * 2 ** 20,
    `${storage} GiB for 48 MiB and a file system`,
  );
  await activity.stop(SUPERVISOR_ENDS);
  t.ok((activity.record?.usage?.[0] ?? 0) >= cpu, 'the last report has the rest of it');
});

/** CPU seconds of a process by another account of the kernel's: nanoseconds of each living thread. */
function schedstat(pid: number): number {
  const folder = `/proc/${pid}/task`;
  const times = readdirSync(folder).map((task) =>
    Number(readFileSync(`${folder}/${task}/schedstat`, 'latin1').split(' ')[0]),
  );
  return times.reduce((sum, time) => sum + time, 0) / 1e9;
}

t.test('SIGTERM ends it in time when QEMU hangs', LONG, async (t) => {
  const { activity, requestor, vms } = await begin(t);
  await perform(requestor, [{ deploy: {} }, { start: {} }]);
  const hanging = await requestor.exec([sh('sleep 1000')]);
  t.ok(hanging);
  const ids = vms();
  const [qemu] = findQemu(ids);
  process.kill(qemu as number, 'SIGSTOP');
  const began = performance.now();
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  tookAtMost(t, 'the end', performance.now() - began, 4000);
  t.match(activity.record, { state: ['Terminated', null], reason: /"batches_pending":1/ });
  t.not(await waitUntil(() => findQemu(ids).length === 0, roomFor(2000)), null);
  t.same(vms(), []);
});

t.test('SIGTERM during the boot, and terminate during it', LONG, async (t) => {
  const { activity, requestor, node, vms } = await begin(t);
  const booting = () =>
    node.service.reached(activity.activity, ({ state }) => state.join() === 'Deployed,Ready', {
      deadline: 60_000,
      what: 'the boot',
    });
  const first = await requestor.exec([{ deploy: {} }, { start: {} }, sh('echo never')]);
  await booting();
  t.match(await perform(requestor, [{ terminate: {} }]), [{ ok: true }]);
  t.match(await requestor.finished(first), [{ ok: true }, { ok: false }]);
  t.match(await requestor.state(), { state: ['Initialized', null] });
  await requestor.exec([{ deploy: {} }, { start: {} }]);
  await booting();
  const ids = vms();
  const began = performance.now();
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  tookAtMost(t, 'the end', performance.now() - began, 4000);
  t.not(await waitUntil(() => findQemu(ids).length === 0, roomFor(2000)), null);
  t.same(vms(), []);
});

t.test('kill -9 of the supervisor: QEMU is gone within 2 s', LONG, async (t) => {
  const { activity, requestor, vms, folder } = await begin(t);
  await perform(requestor, [{ deploy: {} }, { start: {} }]);
  const ids = vms();
  t.equal(findQemu(ids).length, 1);
  process.kill(activity.pid as number, 'SIGKILL');
  await activity.ended;
  const took = await waitUntil(() => findQemu(ids).length === 0, roomFor(2000));
  tookAtMost(t, 'QEMU’s end', took, 2000);
  t.same(findProcesses(`XDG_RUNTIME_DIR=${folder}`), []);
});

t.test('a provider without KVM refuses, unless emulation was asked for', LONG, async (t) => {
  const { activity, requestor } = await begin(t, { YA_VM_ACCEL: '' });
  const [result] = await perform(requestor, [{ deploy: {} }]);
  if (result?.ok) {
    t.pass('KVM works here');
  } else {
    t.match(result?.message, /YAVM_E_NO_KVM/);
  }
  await activity.stop(SUPERVISOR_ENDS);
});

t.test('a VM under load: usage comes each second', LONG, async (t) => {
  const { activity, requestor, events } = await begin(t);
  await perform(requestor, [{ deploy: {} }, { start: {} }]);
  const seconds = soak ? 60 : 6;
  const load = `end=$(($(date +%s)+${seconds})); while [ $(date +%s) -lt $end ]; do head -c 1000000 /dev/zero; done`;
  const batch = await requestor.exec([sh(load)]);
  let bytes = 0;
  for await (const event of requestor.stream(batch))
    if (event.kind === 'stdout') bytes += event.output.length;
  await activity.stop(SUPERVISOR_ENDS);
  t.ok(bytes > 1e6, `${bytes} bytes of output meanwhile`);
  const times = events.flatMap((event) => (event.kind === 'usage' ? [event.time] : []));
  const gap = Math.max(...times.slice(1).map((time, index) => time - (times[index] as number)));
  // A machine that does other things besides lets each process wait its turn; none is to be without.
  const least = soak ? seconds : seconds / 2;
  t.ok(times.length >= least, `${times.length} reports`);
  tookAtMost(t, 'the longest time between two reports', gap, 2000);
});

t.test('from-file: the script of a file, without a bus, until a signal', LONG, async (t) => {
  const env = privateEnvironment(t);
  const folder = env.XDG_RUNTIME_DIR as string;
  const file = (name: string, value: unknown) => {
    writeFileSync(join(folder, name), JSON.stringify(value));
    return join(folder, name);
  };
  const terms = { requestorId: '0x1', providerId: '0x2', usageVector: VECTOR };
  const limits = { memoryGib: 0.25, storageGib: 0.1, cores: 1 };
  const logs = join(folder, 'logs');
  const words = ['from-file', file('script.json', [{ deploy: {} }, { start: {} }, { terminate: {} }])];
  const options = ['-a', file('a.json', buildAgreement({ ...terms, limits })), '-w', join(folder, 'w')];
  const cli = startCli(t, [...words, ...options, '-c', join(folder, 'c'), ...ACCEL], {
    env: { ...env, EXE_UNIT_LOG_DIR: logs },
  });
  const logFile = join(logs, 'exe-unit.log');
  const log = () => (existsSync(logFile) ? readFileSync(logFile, 'utf8') : '');
  t.not(
    await waitUntil(() => /"kind":"terminate","returnCode":0/.test(log()), 60_000),
    null,
    'the script is over',
  );
  t.equal(cli.child.exitCode, null, 'and the exe-unit still there');
  cli.kill('SIGINT');
  t.match(await cli.ended(), { code: 0, stderr: '', stdout: { length: 0 } });
  t.same(readdirSync(join(folder, 'w')), []);
});
