import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import { silentLogger } from '../../host/lib/logger.ts';
import { isAlive, startTimeOf } from '../../host/lib/process.ts';
import {
  ActivityHost,
  type ActivityHostOptions,
  type RunningActivity,
} from '../../host/node/activity-host.ts';
import { type AgreementTerms, buildAgreement } from '../../host/node/agreement-file.ts';
import { LocalNode } from '../../host/node/node.ts';
import type { Started } from '../lib/fake-supervisor.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { SUPERVISOR_ENDS } from '../lib/in-time.ts';
import { ManualClock } from '../lib/manual-clock.ts';

const PROGRAM = [process.execPath, ...process.execArgv, resolve('test/lib/fake-supervisor.ts')] as const;
const TERMS: AgreementTerms = {
  requestorId: `0x${'1'.repeat(40)}`,
  providerId: `0x${'2'.repeat(40)}`,
  usageVector: ['golem.usage.cpu_sec', 'golem.usage.duration_sec'],
  coefficients: [0.1, 0.2, 1],
  limits: { memoryGib: 16.092196479439735, storageGib: 58.4, cores: 2, threads: 1 },
  taskPackage: 'hash:sha3:ab:http://127.0.0.1/x.gvmi',
};

async function start(t: Test, mode: string, options: Partial<ActivityHostOptions> = {}) {
  const folder = socketFolder(t);
  const clock = new ManualClock();
  const address = { kind: 'unix', path: join(folder, 'gsb.sock') } as const;
  const node = await LocalNode.start({ address, logger: silentLogger, clock });
  const running: RunningActivity[] = [];
  t.teardown(async () => {
    for (const activity of running) await activity.stop(0);
    await node.close();
  });
  const host = new ActivityHost({
    program: PROGRAM,
    service: node.service,
    gsbUrl: node.url,
    folder,
    cacheFolder: join(folder, 'cache'),
    env: { ...process.env, FAKE_SUPERVISOR: mode },
    ...options,
  });
  const begin = async (initializedWithin = 60_000) => {
    const activity = await host.start({ agreement: TERMS, initializedWithin });
    running.push(activity);
    return activity;
  };
  return { folder, node, clock, host, begin };
}

t.test('a supervisor is started as ya-provider does it', async (t) => {
  const { folder, node, begin } = await start(t, 'good');
  const activity = await begin();
  t.match(activity.activity, /^[0-9a-f]{32}$/);
  t.match(activity.agreement.id, /^[0-9a-f]{64}$/);
  const work = join(folder, 'work', activity.agreement.id, activity.activity);
  t.equal(activity.workFolder, work);
  const told = JSON.parse(readFileSync(join(work, 'started.json'), 'utf8')) as Started;
  t.same(told.argv.slice(2), [
    ...['--cap-handoff', 'service-bus', activity.activity, '/local/activity'],
    ...['-c', join(folder, 'cache'), '-w', work, '-a', join(dirname(work), 'agreement.json')],
  ]);
  t.match(told, {
    cwd: work,
    pid: activity.pid,
    group: activity.pid,
    session: activity.pid,
    gsbUrl: node.url,
  });
  t.same(told.streams, ['/dev/null', '/dev/null', '/dev/null']);
  t.ok(existsSync(join(folder, 'cache')));
  t.match(activity.record, { state: ['Initialized', null], usage: [0.5, 0.25] });

  const agreement = JSON.parse(readFileSync(join(dirname(work), 'agreement.json'), 'utf8'));
  t.equal(agreement.agreementId, activity.agreement.id);
  t.same(agreement.offer.properties.golem.com.usage.vector, TERMS.usageVector);

  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  t.match(activity.record, { state: ['Terminated', null], reason: 'Finished: {}', life: 'ended' });
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null }, 'twice is once');
});

t.test('one that does not end in time is killed, and the node says so for it', async (t) => {
  const { begin } = await start(t, 'deaf');
  const activity = await begin();
  t.same(await activity.stop(50), { code: null, signal: 'SIGKILL' });
  t.match(activity.record, { state: ['Terminated', null], reason: 'execution aborted' });
});

t.test('one that is silent for 10 s is ended', async (t) => {
  const { begin, clock, node } = await start(t, 'silent');
  const activity = await begin();
  const kinds: string[] = [];
  node.service.listen(({ kind }) => kinds.push(kind));
  clock.pass(11_000);
  t.same(await activity.ended, { code: 0, signal: null });
  t.same(kinds, ['unresponsive', 'dead', 'state']);
});

t.test('why an activity does not start', async (t) => {
  const exits = await start(t, 'exits');
  await t.rejects(exits.begin(), {
    code: 'YAVM_E_ACTIVITY_START',
    message: 'the supervisor could not start the activity: it ended with exit code 1',
    hint: /work\/.*\/logs/,
  });
  const refuses = await start(t, 'refuses');
  await t.rejects(refuses.begin(), {
    code: 'YAVM_E_ACTIVITY_START',
    message: 'the supervisor could not start the activity: no image, it is not there',
  });
  const missing = await start(t, 'good', { program: ['/nowhere/at/all'] });
  await t.rejects(missing.begin(), {
    code: 'YAVM_E_ACTIVITY_START',
    message: /its program cannot be executed/,
    cause: { code: 'ENOENT' },
  });
});

t.test('one that says nothing is given up, and ended', async (t) => {
  const { node, host } = await start(t, 'mute');
  const stop = new AbortController();
  const starting = host.start({ agreement: TERMS, activity: 'a', signal: stop.signal });
  stop.abort(new Error('enough'));
  await t.rejects(starting, { message: 'enough' });
  t.match(node.service.get('a'), { state: ['Terminated', null], reason: 'execution aborted' });
  await t.rejects(host.start({ agreement: TERMS, activity: 'b', initializedWithin: 50 }), {
    code: 'YAVM_E_TIMEOUT',
    message: 'no answer of the supervisor (Initialized) within 50 ms',
  });
});

t.test('a supervisor that is killed is terminated, by the node', async (t) => {
  const { node, begin } = await start(t, 'good');
  const activity = await begin();
  const pid = activity.pid as number;
  const identity = { pid, startTime: startTimeOf(pid) as number };
  process.kill(pid, 'SIGKILL');
  t.same(await activity.ended, { code: null, signal: 'SIGKILL' });
  t.equal(isAlive(identity), false);
  t.match(node.service.get(activity.activity), { state: ['Terminated', null], reason: 'execution aborted' });
});

/** Every path that leads to a value, as `a.b`; a list is a value. */
function pathsOf(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [path];
  return Object.entries(value).flatMap(([key, inner]) =>
    pathsOf(inner, path === '' ? key : `${path}.${key}`),
  );
}

const fixture = join(import.meta.dirname, '../../../shared/fixtures/gsb/ya-provider-agreement.json');
const skip = existsSync(fixture) ? false : '../shared/fixtures is not here';

t.test("the agreement has what a supervisor looks for where ya-provider's has it", { skip }, (t) => {
  const real = pathsOf(JSON.parse(readFileSync(fixture, 'utf8')));
  const ours = pathsOf(buildAgreement(TERMS));
  for (const path of [
    'agreementId',
    'demand.requestorId',
    'demand.properties.golem.srv.comp.task_package',
    'offer.providerId',
    'offer.properties.golem.com.usage.vector',
    'offer.properties.golem.com.pricing.model.@tag',
    'offer.properties.golem.com.pricing.model.linear.coeffs',
    'offer.properties.golem.inf.cpu.cores',
    'offer.properties.golem.inf.cpu.threads',
    'offer.properties.golem.inf.mem.gib',
    'offer.properties.golem.inf.storage.gib',
    'offer.properties.golem.runtime.capabilities',
    'offer.properties.golem.runtime.name',
  ]) {
    t.ok(real.includes(path) && ours.includes(path), path);
  }
  const extra = ours.filter((path) => !real.includes(path));
  t.same(
    extra,
    ['demand.properties.golem.srv.comp.expiration'].filter((path) => !real.includes(path)),
  );
  t.end();
});
