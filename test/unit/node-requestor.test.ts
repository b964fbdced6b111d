import { join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import { connectGsb } from '../../host/gsb/connection.ts';
import type { Flex, Gsb } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import {
  type ActivityEvent,
  ActivityHost,
  costOf,
  LocalNode,
  Requestor,
  type RuntimeEvent,
} from '../../host/node/index.ts';
import { socketFolder } from '../lib/gsb-peer.ts';
import { SUPERVISOR_ENDS } from '../lib/in-time.ts';
import { FakeBus } from '../lib/supervisor-bus.ts';

const PROGRAM = [process.execPath, ...process.execArgv, resolve('test/lib/stand-in-supervisor.ts')] as const;
const COEFFICIENTS = [0.25, 3, 0, 1000, 0.5];
const VECTOR = [
  'golem.usage.duration_sec',
  'golem.usage.cpu_sec',
  'golem.usage.gib',
  'golem.usage.storage_gib',
];

async function start(t: Test) {
  const folder = socketFolder(t);
  const node = await LocalNode.start({
    address: { kind: 'unix', path: join(folder, 'gsb.sock') },
    logger: silentLogger,
  });
  t.teardown(() => node.close());
  const events: ActivityEvent[] = [];
  node.service.listen((event) => events.push(event));
  const host = new ActivityHost({
    program: PROGRAM,
    service: node.service,
    gsbUrl: node.url,
    folder,
    cacheFolder: join(folder, 'cache'),
  });
  const activity = await host.start({
    agreement: {
      requestorId: `0x${'1'.repeat(40)}`,
      providerId: `0x${'2'.repeat(40)}`,
      usageVector: VECTOR,
      coefficients: COEFFICIENTS,
      limits: { memoryGib: 1, storageGib: 1, cores: 1 },
    },
  });
  t.teardown(() => activity.stop());
  return { node, activity, events, requestor: node.requestor(activity.activity) };
}

const run = (entryPoint: string, args: string[], capture: Flex = { stdout: { stream: {} } }): Flex => ({
  run: { entry_point: entryPoint, args, capture },
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

t.test('a whole activity: exec, stream, results, state, usage, running, and its price', async (t) => {
  const began = performance.now();
  const { activity, events, requestor } = await start(t);
  t.match(await requestor.state(), { state: ['Initialized', null] });
  t.match(await requestor.usage(), { current: [Number, Number, Number, Number] });
  await t.rejects(requestor.running(), { name: 'RpcError', kind: 'notFound' });

  const script = [
    { deploy: { progress: {} } },
    { start: {} },
    run('print', ['out', 'error'], { stdout: { stream: {} }, stderr: { atEnd: { format: 'bin' } } }),
    run('exit', ['3']),
    run('print', ['never']),
  ];
  const batch = await requestor.exec(script, { batchId: 'b1' });
  t.equal(batch, 'b1');
  const seen = await all(requestor.stream(batch));
  t.same(
    seen.map(({ index, kind }) => `${index} ${kind}`),
    [
      ...['0 started', '0 progress', '0 finished', '1 started', '1 finished'],
      ...['2 started', '2 stdout', '2 finished', '3 started', '3 finished'],
    ],
  );
  t.match(seen[1], { progress: [5, 10], unit: 'Bytes', batchId: 'b1' });
  t.match(seen[6], { output: 'out' });
  t.match(seen[9], { returnCode: 3, message: 'ExeScript command exited with code 3' });

  const results = await requestor.finished(batch);
  t.match(
    results.map(({ ok, message }) => [ok, message]),
    [
      [true, null],
      [true, null],
      [true, null],
      [false, 'ExeScript command exited with code 3'],
    ],
  );
  t.match(results[2], { index: 2, stdout: 'out', isBatchFinished: false, eventDate: /Z$/ });
  t.same(results[2]?.stderr, new TextEncoder().encode('error'));
  t.equal(results[3]?.isBatchFinished, true);
  t.same(await requestor.finished(await requestor.exec([])), [], 'an empty script');

  const hanging = await requestor.exec([run('hang', ['here'])]);
  for await (const event of requestor.stream(hanging)) if (event.kind === 'stdout') break;
  t.match(await requestor.running(), [{ command: 'Run', params: ['hang', 'here'] }]);
  t.same(await requestor.results(hanging), []);
  await t.rejects(requestor.results(hanging, { timeout: 0.05, commandIndex: 0 }), {
    name: 'RpcError',
    kind: 'timeout',
  });
  await t.rejects(requestor.results('unknown'), { kind: 'notFound', message: 'batch_id = unknown' });
  t.match(activity.record, { state: ['Ready', 'Ready'] });

  await reports(events, 3);
  t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  priced(t, events, activity.record?.usage ?? [], (performance.now() - began) / 1000);
});

/** Waits for so many usage reports; they come once a second. */
async function reports(events: readonly ActivityEvent[], wanted: number): Promise<void> {
  const last = performance.now() + 60_000;
  while (events.filter(({ kind }) => kind === 'usage').length < wanted) {
    if (performance.now() > last) throw new Error('no usage is reported');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/**
 * The cost, event by event, as the provider computes it; it never falls, and its last value is the final vector's.
 * @param seconds Since before its start.
 */
function priced(t: Test, events: readonly ActivityEvent[], final: readonly number[], seconds: number): void {
  const vectors = events.flatMap((event) => (event.kind === 'usage' && event.usage ? [event.usage] : []));
  t.ok(vectors.length >= 3, `${vectors.length} reports`);
  t.ok(vectors.every(({ length }) => length === VECTOR.length));
  const costs = vectors.map((vector) => costOf(vector, COEFFICIENTS));
  t.same(
    costs.filter((cost, index) => index > 0 && cost < (costs[index - 1] as number)),
    [],
    'the cost never falls',
  );
  const [duration, cpu, memory, storage] = final as [number, number, number, number];
  const expected = 0.25 * duration + 3 * cpu + 0 * memory + 1000 * storage + 0.5;
  t.ok(Math.abs((costs.at(-1) as number) - expected) < 1e-9, `${costs.at(-1)} is ${expected}`);
  t.ok((costs.at(-1) as number) > (costs[0] as number), 'and rises');
  // Reports are a second apart at least, but for the last one; how much more is the machine's affair.
  const least = vectors.length - 2.1;
  t.ok(duration >= least && duration <= seconds, `${duration} s were counted, in ${least} to ${seconds} s`);
}

t.test('a requestor of the network has its node id as caller', async (t) => {
  const bus = new FakeBus();
  bus.answer = ({ address }) =>
    address.endsWith('/GetActivityState') ? { state: ['Ready', null] } : { currentUsage: null, timestamp: 5 };
  const requestor = new Requestor({ gsb: bus, activity: 'a', caller: '0xabc' });
  t.match(await requestor.state(), { state: ['Ready', null] });
  t.same(await requestor.usage(), { current: null, timestamp: 5 });
  t.match(bus.calls, [
    {
      ...{ address: '/public/exeunit/a/GetActivityState', body: { activityId: 'a', timeout: null } },
      ...{ options: { caller: '0xabc' } },
    },
    { address: '/public/exeunit/a/GetActivityUsage' },
  ]);
});

t.test('waiting for a batch asks again until it has ended', async (t) => {
  const bus = new FakeBus();
  const result = { index: 0, result: 'Ok', stdout: null, stderr: null, message: null, eventDate: 'x' };
  const answers: Flex[] = [
    [],
    [{ ...result, isBatchFinished: false }],
    [{ ...result, isBatchFinished: true }],
  ];
  bus.answer = () => answers.shift() ?? null;
  const requestor = new Requestor({ gsb: bus, activity: 'a' });
  t.match(await requestor.finished('b'), [{ index: 0, ok: true, isBatchFinished: true }]);
  t.equal(bus.calls.length, 3);
  t.match(bus.calls[0], {
    body: { batchId: 'b', timeout: 60, commandIndex: null },
    options: { deadline: 65_000 },
  });
  const stop = new AbortController();
  bus.answer = () => {
    stop.abort(new Error('enough'));
    return [];
  };
  await t.rejects(requestor.finished('b', stop.signal), { message: 'enough' });
});

t.test('answers that cannot be are errors, not values', async (t) => {
  const bus = new FakeBus();
  const requestor = new Requestor({ gsb: bus, activity: 'a' });
  const result = { index: 0, result: 'Ok', isBatchFinished: true, eventDate: 'x' };
  for (const [answer, ask] of [
    [7, () => requestor.exec([])],
    [{}, () => requestor.results('b')],
    [[7], () => requestor.results('b')],
    [[{ ...result, index: 'x' }], () => requestor.results('b')],
    [[{ ...result, isBatchFinished: null }], () => requestor.results('b')],
    [[{ ...result, stdout: [1, 256] }], () => requestor.results('b')],
    [[{ ...result, stderr: {} }], () => requestor.results('b')],
    [{ state: 'Ready' }, () => requestor.state()],
    [{ timestamp: 1, currentUsage: 'x' }, () => requestor.usage()],
    [[{}], () => requestor.running()],
    [[{ command: 'Run', params: [1] }], () => requestor.running()],
  ] as [Flex, () => Promise<unknown>][]) {
    bus.answer = () => answer;
    await t.rejects(ask(), { code: 'YAVM_E_NODE_MESSAGE' }, JSON.stringify(answer));
  }
  const event = { batch_id: 'b', index: 0, timestamp: 'x' };
  for (const kind of [
    null,
    'started',
    {},
    { finished: {} },
    { stdout: 7 },
    { other: {} },
    { progress: { step: [0, 1] } },
  ]) {
    bus.stream = async function* () {
      yield { ...event, kind } as Flex;
    } as Gsb['stream'] as FakeBus['stream'];
    await t.rejects(all(requestor.stream('b')), { code: 'YAVM_E_NODE_MESSAGE' }, JSON.stringify(kind));
  }
});

t.test('the services answer over the bus, also to bytes that are no message', async (t) => {
  const { node, activity } = await start(t);
  const gsb = connectGsb({ address: node.address, logger: silentLogger });
  t.teardown(() => gsb.close());
  const call = (address: string, body: Flex) => gsb.call(address, body, { deadline: 60_000 });
  t.match(await call('/local/identity/Get', 'byDefault'), { nodeId: node.identity.nodeId, isDefault: true });
  await t.rejects(call('/local/activity/SetActivityState', 7), { code: 'YAVM_E_GSB_SERVICE' });
  const body = { activityId: 'other', state: { state: ['Ready', null] } };
  await t.rejects(call('/local/activity/SetActivityState', body), { name: 'RpcError', kind: 'service' });
  const second = new Requestor({ gsb, activity: activity.activity });
  t.match(await second.state(), { state: ['Initialized', null] });
  const kinds = new Set<RuntimeEvent['kind']>();
  for await (const { kind } of second.stream(await second.exec([{ deploy: {} }]))) kinds.add(kind);
  t.same([...kinds], ['started', 'finished']);
});
