/** The exe-unit as a process, started as a provider does, on a real bus; only its VM is a stand-in. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import type { Flex } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import {
  ActivityHost,
  type ActivityHostOptions,
  type RunningActivity,
} from '../../host/node/activity-host.ts';
import type { ActivityEvent } from '../../host/node/activity-service.ts';
import type { AgreementTerms } from '../../host/node/agreement-file.ts';
import { LocalNode } from '../../host/node/node.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { SUPERVISOR_ENDS, tookAtMost } from '../lib/in-time.ts';

const PROGRAM = [process.execPath, ...process.execArgv, resolve('test/lib/stand-in-supervisor.ts')] as const;
const TERMS: AgreementTerms = {
  requestorId: `0x${'1'.repeat(40)}`,
  providerId: `0x${'2'.repeat(40)}`,
  usageVector: ['golem.usage.cpu_sec', 'golem.usage.duration_sec', 'custom', 'golem.usage.gib'],
  limits: { memoryGib: 1, storageGib: 1, cores: 1, threads: 1 },
};
const DEPLOYED: Flex[] = [{ deploy: {} }, { start: {} }];

async function setUp(t: Test, options: Partial<ActivityHostOptions> = {}) {
  const folder = socketFolder(t);
  const address = { kind: 'unix', path: join(folder, 'gsb.sock') } as const;
  let node = await LocalNode.start({ address, logger: silentLogger });
  const running: RunningActivity[] = [];
  t.teardown(async () => {
    for (const activity of running) await activity.stop(0);
    await node.close();
  });
  const hostOf = (target: LocalNode) =>
    new ActivityHost({
      program: PROGRAM,
      service: target.service,
      gsbUrl: target.url,
      folder,
      cacheFolder: join(folder, 'cache'),
      env: { ...process.env, EXE_UNIT_LOG_DIR: undefined },
      ...options,
    });
  return {
    folder,
    node: () => node,
    events(): ActivityEvent[] {
      const events: ActivityEvent[] = [];
      node.service.listen((event) => void events.push(event));
      return events;
    },
    async begin(terms: Partial<AgreementTerms> = {}, activity?: string) {
      const started = await hostOf(node).start({ agreement: { ...TERMS, ...terms }, activity });
      running.push(started);
      return started;
    },
    async restart(activity: string) {
      await node.close();
      node = await LocalNode.start({ address, logger: silentLogger });
      node.service.announce(activity);
      return node;
    },
  };
}

/** The lines of its log. */
function logOf({ workFolder, activity }: RunningActivity): Record<string, unknown>[] {
  const text = readFileSync(join(workFolder, 'logs', `exe-unit_${activity}.log`), 'utf8');
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

t.test('an activity from its start to SIGTERM', async (t) => {
  const { node, events, begin } = await setUp(t);
  const seen = events();
  const activity = await begin();
  const requestor = node().requestor(activity.activity);
  const batch = await requestor.exec([
    ...DEPLOYED,
    { run: { entry_point: 'exit', args: ['7'] } },
    { sign: {} },
  ]);
  t.match(await requestor.finished(batch), [
    { ok: true },
    { ok: true },
    { ok: false, isBatchFinished: true },
  ]);
  t.match(await requestor.state(), { state: ['Ready', null] });
  t.equal((await requestor.usage()).current?.length, 4);

  const began = performance.now();
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  tookAtMost(t, 'the end', performance.now() - began, 4000);
  const states = seen.flatMap((event) => (event.kind === 'state' ? [event.state.join()] : []));
  t.same(states, [
    ...[
      'Initialized,',
      'Initialized,Deployed',
      'Deployed,',
      'Deployed,Ready',
      'Ready,',
      'Ready,Ready',
      'Ready,',
    ],
    ...['Ready,Terminated', 'Terminated,'],
  ]);
  t.equal(
    activity.record?.reason,
    'Interrupted by signal: 15: {"batches_done":0,"batches_pending":1,"cmds_done":3,"cmds_pending":1}',
  );
  t.equal(seen.at(-2)?.kind, 'usage', 'the last vector comes before the last state');
  t.same(readdirSync(activity.workFolder), ['logs'], 'nothing stays but the log');

  const log = logOf(activity);
  t.ok(
    log.every((line) => line.activity === activity.activity),
    'the activity on each line',
  );
  t.match(
    log.filter((line) => line.msg === 'command ended'),
    [{ batch, index: 0 }, { batch }, { batch }],
  );
});

t.test('usage each second, in the agreement’s order, never falling', async (t) => {
  const { node, events, begin } = await setUp(t);
  const seen = events();
  const activity = await begin();
  await node().service.reached(activity.activity, ({ usageReports }) => usageReports >= 4, {
    deadline: 60_000,
    what: 'four reports',
  });
  await activity.stop(SUPERVISOR_ENDS);
  const reports = seen.flatMap((event) => (event.kind === 'usage' ? [event] : []));
  for (const [index, { usage }] of reports.entries()) {
    const [cpu, duration, custom, memory] = usage as [number, number, number, number];
    t.ok(cpu > 0 && Number.isInteger(cpu * 2), `${cpu}: what the VM said, half a second each time`);
    t.equal(custom, 0);
    t.equal(memory, 0.125);
    const [cpuBefore, durationBefore] = reports[index - 1]?.usage ?? [0, -1];
    t.ok(cpu > (cpuBefore as number), 'each report has a reading of its own');
    t.ok(duration > (durationBefore as number));
  }
  // By the supervisor's own clock: how reports come together on their way is the machine's affair.
  const seconds = reports.at(-2)?.usage?.[1] ?? 0;
  t.ok(reports.length - 1 <= seconds + 1.1, `${reports.length - 1} in ${seconds} s, and one at the end`);
});

t.test('a limit of the agreement ends the activity, unless the VM is the limit', async (t) => {
  const { node, begin } = await setUp(t, { extraArgs: [] });
  const activity = await begin({ limits: { ...TERMS.limits, memoryGib: 0.1 } });
  await t.rejects(node().requestor(activity.activity).usage(), {
    message: '"golem.usage.gib" exceeded the value of 0.125',
  });
  t.same(await activity.ended, { code: 0, signal: null });
  t.equal(
    activity.record?.reason,
    `Usage limit exceeded: "golem.usage.gib" exceeded the value of 0.125: ${JSON.stringify({
      ...{ batches_done: 0, batches_pending: 0, cmds_done: 0, cmds_pending: 0 },
    })}`,
  );
});

t.test('a start that fails is told to the node, with exit code 1', async (t) => {
  const { node, events, begin } = await setUp(t);
  const seen = events();
  await t.rejects(begin({ manifest: 'bm90IGpzb24=' }), {
    code: 'YAVM_E_ACTIVITY_START',
    message: /the activity cannot start, .*\(YAVM_E_MANIFEST\)/,
  });
  t.match(seen, [{ kind: 'state', state: ['Terminated', null] }]);
  t.equal(seen.length, 1, 'and nothing else');
  t.match(node().service.activities, [{ state: ['Terminated', null], usageReports: 0 }]);
});

t.test('the node comes back: the running command does not notice, usage comes first', async (t) => {
  const { node, begin, restart } = await setUp(t);
  const activity = await begin();
  const batch = await node()
    .requestor(activity.activity)
    .exec([
      ...DEPLOYED,
      { run: { entry_point: 'hang', args: ['there'], capture: { stdout: { stream: {} } } } },
    ]);
  await node().service.reached(activity.activity, ({ state }) => state.join() === 'Ready,Ready', {
    deadline: 60_000,
    what: 'the run',
  });
  const again = await restart(activity.activity);
  const kinds: string[] = [];
  again.service.listen((event) => void kinds.push(event.kind));
  await again.service.reached(activity.activity, ({ stateReports }) => stateReports > 0, {
    deadline: 60_000,
    what: 'the state after the restart',
  });
  t.same(kinds.slice(0, 2), ['usage', 'state']);
  t.match(activity.record === undefined ? null : again.service.get(activity.activity), {
    state: ['Ready', 'Ready'],
  });
  t.match(await again.requestor(activity.activity).results(batch), [{ ok: true }, { ok: true }]);
  t.match(await again.requestor(activity.activity).running(), [{ command: 'Run' }]);
});

t.test('a node that stays away: the activity ends by itself, with its reason in the log', async (t) => {
  const { node, begin } = await setUp(t);
  const activity = await begin();
  const began = performance.now();
  await node().close();
  t.same(await activity.ended, { code: 0, signal: null });
  const took = performance.now() - began;
  t.ok(took > 8000, `it waits for it: ${took} ms`);
  tookAtMost(t, 'the end', took, 14_000);
  const why = logOf(activity).find(({ msg }) => msg === 'the activity ends')?.why;
  t.match(why, /^Runtime error: Reporting endpoint '\/local\/activity' is not available/);
  t.same(readdirSync(activity.workFolder), ['logs']);
});

t.test('several signals are one', async (t) => {
  const { begin } = await setUp(t);
  const activity = await begin();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGINT'] as const) process.kill(activity.pid as number, signal);
  t.same(await activity.ended, { code: 0, signal: null });
  t.match(activity.record, { state: ['Terminated', null], reason: /^Interrupted by signal: (2|15): / });
});

t.test('a second supervisor for a live activity leaves, without ending the first', async (t) => {
  const { node, begin } = await setUp(t);
  const first = await begin();
  const second = await begin({}, first.activity);
  t.same(await second.ended, { code: 0, signal: null });
  t.match(logOf(second).find(({ msg }) => msg === 'the activity ends')?.why, /YAVM_E_GSB_TAKEN/);
  const requestor = node().requestor(first.activity);
  t.match(await requestor.state(), { state: ['Initialized', null] });
  t.equal(node().service.get(first.activity)?.state.join(), 'Initialized,', 'nobody reported Terminated');
});
