/** The path of production on one host: a node, the launcher as its supervisor, a VM; and a requestor's script through it. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { localImage } from '../../host/cli/local-activity.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { type ActivityEvent, ActivityHost, costOf, LocalNode } from '../../host/node/index.ts';
import { SUPERVISOR_ENDS } from '../lib/in-time.ts';
import { findProcesses, waitUntil } from '../lib/processes.ts';
import { DEMO_IMAGE, privateEnvironment } from '../lib/vm.ts';
import { ACCEL, LAUNCHER, runCli, startCli } from '../lib/ya-vm.ts';

const run = (line: string) => ({
  run: {
    entry_point: '/bin/sh',
    args: ['-c', line],
    capture: { stdout: { stream: {} }, stderr: { stream: {} } },
  },
});

/** An environment of its own, and a script in it. */
function prepare(t: Test, ...commands: unknown[]) {
  const env = privateEnvironment(t);
  const folder = env.XDG_RUNTIME_DIR as string;
  const file = join(folder, 'script.json');
  writeFileSync(file, JSON.stringify([{ deploy: {} }, { start: {} }, ...commands]));
  return { env, folder, file };
}

t.test('exec-script: deploy, start, run, complete output, the failed command as exit code', async (t) => {
  const { env, folder, file } = prepare(
    t,
    run('echo out; echo error >&2'),
    run('seq 1 100000'),
    run('exit 7'),
    run('echo never'),
  );
  const result = await runCli(t, ['exec-script', file, '--json', ...ACCEL], { env });
  t.equal(result.code, 7, result.stderr);
  const lines = result.stdout
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const output = (kind: string, index: number) =>
    lines
      .filter((line) => line.kind === kind && line.index === index)
      .map((line) => line.output)
      .join('');
  t.equal(output('stdout', 2), 'out\n');
  t.equal(output('stderr', 2), 'error\n');
  t.equal(output('stdout', 3), Array.from({ length: 100_000 }, (_, index) => `${index + 1}\n`).join(''));
  t.equal(output('stdout', 5), '');
  const end = lines.at(-1);
  t.match(end, { kind: 'end', exitCode: 7 });
  t.ok(end.usage['golem.usage.cpu_sec'] > 0.1, 'the VM used a CPU');
  t.ok(end.usage['golem.usage.gib'] > 0.02, 'and memory');
  t.same(readdirSync(join(folder, 'ya-vm')), [], 'no socket, no run folder');
});

t.test('Ctrl-C ends the activity and the VM', async (t) => {
  const { env, folder, file } = prepare(t, run('echo up; sleep 600'));
  const cli = startCli(t, ['exec-script', file, ...ACCEL], { env });
  await cli.says('stdout | up');
  cli.kill('SIGINT');
  t.equal((await cli.ended()).code, 130);
  t.same(findProcesses(folder), [], 'nothing of it is left');
});

t.test('killed, it leaves nothing for long: the supervisor misses its node', async (t) => {
  const { env, folder, file } = prepare(t, run('echo up; sleep 600'));
  const cli = startCli(t, ['exec-script', file, ...ACCEL], { env });
  await cli.says('stdout | up');
  t.ok(findProcesses(folder).length >= 2);
  cli.kill('SIGKILL');
  await cli.ended();
  const took = await waitUntil(() => findProcesses(folder).length === 0, 60_000);
  t.not(took, null, `all gone after ${took} ms`);
});

t.test(
  'the price of a real activity, from the reports: never falls, ends where the final vector says',
  async (t) => {
    const { env, folder } = prepare(t);
    const node = await LocalNode.start({
      address: { kind: 'unix', path: join(folder, 'node.sock') },
      logger: silentLogger,
    });
    t.teardown(() => node.close());
    const events: ActivityEvent[] = [];
    node.service.listen((event) => events.push(event));
    const coefficients = [0.001, 0.01, 0.1, 0.5, 2];
    const activity = await new ActivityHost({
      program: [LAUNCHER],
      extraArgs: ['--cap-handoff', ...ACCEL],
      service: node.service,
      gsbUrl: node.url,
      folder,
      cacheFolder: join(folder, 'images'),
      env: { ...env, YA_VM_LOCAL_IMAGES: '1' },
    }).start({
      agreement: {
        requestorId: `0x${'1'.repeat(40)}`,
        providerId: node.identity.nodeId,
        usageVector: [
          ...[
            'golem.usage.cpu_sec',
            'golem.usage.duration_sec',
            'golem.usage.storage_gib',
            'golem.usage.gib',
          ],
        ],
        coefficients,
        limits: { memoryGib: 0.25, storageGib: 0.25, cores: 1 },
        taskPackage: localImage(DEMO_IMAGE),
      },
    });
    t.teardown(() => activity.stop());
    const requestor = node.requestor(activity.activity);
    const busy = run('end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done');
    const results = await requestor.finished(await requestor.exec([{ deploy: {} }, { start: {} }, busy]));
    t.ok(results.every(({ ok }) => ok) && results.length === 3);
    t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });

    const vectors = events.flatMap((event) => (event.kind === 'usage' && event.usage ? [event.usage] : []));
    const costs = vectors.map((vector) => costOf(vector, coefficients));
    t.same(
      costs.filter((cost, index) => index > 0 && cost < (costs[index - 1] as number)),
      [],
    );
    const final = (activity.record?.usage ?? []) as [number, number, number, number];
    const [cpu, duration, storage, memory] = final;
    const expected = 2 + 0.001 * cpu + 0.01 * duration + 0.1 * storage + 0.5 * memory;
    t.ok(Math.abs((costs.at(-1) as number) - expected) < 1e-9, `${costs.at(-1)} is ${expected}`);
    t.ok(cpu >= 2 && cpu <= duration + 1, `${cpu} s of CPU in ${duration} s`);
    t.ok(memory > 0.02 && storage > 0, `${memory} GiB of memory, ${storage} GiB of storage`);
    const times = events.flatMap(({ kind, time }) => (kind === 'usage' ? [time] : []));
    const gaps = times.map((time, index) => time - (times[index - 1] ?? time));
    t.ok(Math.max(...gaps) < 2000, `the longest gap was ${Math.round(Math.max(...gaps))} ms`);
  },
);
