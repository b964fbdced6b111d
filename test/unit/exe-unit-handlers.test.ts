import t from 'tap';
import { addressOf, handlersFor, readIndex, readTimeout } from '../../host/exe-unit/handlers.ts';
import type { ScriptCommand, StatePair } from '../../host/exe-unit/types.ts';
import { type Binding, type CallInfo, type Flex, RpcError } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';

const CALL: CallInfo = {
  caller: 'local',
  address: '/public/exeunit/a1/x',
  noReply: false,
  signal: new AbortController().signal,
};

function setUp() {
  const calls: unknown[][] = [];
  let usage = () => [1.5, 0];
  const handlers = handlersFor({
    activityId: 'a1',
    activity: {
      state: ['Ready', 'Ready'] as StatePair,
      exec: (id: string, script: readonly ScriptCommand[]) => void calls.push(['exec', id, script.length]),
      results: async (...given: unknown[]) => {
        calls.push(['results', ...given.slice(0, 3)]);
        return [];
      },
      stream: (id: string) => {
        calls.push(['stream', id]);
        return (async function* () {
          yield 'item';
        })();
      },
      running: () => [],
    },
    usage: () => usage(),
    logger: silentLogger,
  });
  return {
    calls,
    handlers,
    refuseUsage: (error: Error) => {
      usage = () => {
        throw error;
      };
    },
    ask: async (message: string, body: Flex) => await unary(handlers[message]).call(null, body, CALL),
  };
}

function unary(binding: Binding | undefined) {
  if (!binding || !('unary' in binding)) throw new Error('no unary binding');
  return binding.unary;
}

t.test('the six addresses, as upstream registers them', async (t) => {
  t.same(
    Object.keys(setUp().handlers)
      .map((name) => `${addressOf('a1')}/${name}`)
      .sort(),
    [
      '/public/exeunit/a1/Exec',
      '/public/exeunit/a1/GetActivityState',
      '/public/exeunit/a1/GetActivityUsage',
      '/public/exeunit/a1/GetExecBatchResults',
      '/public/exeunit/a1/GetRunningCommand',
      '/public/exeunit/a1/StreamExecBatchResults',
    ],
  );
});

t.test('another activity’s id is refused, with upstream’s text', async (t) => {
  const { ask, handlers, calls } = setUp();
  for (const message of Object.keys(handlers).filter((name) => name !== 'StreamExecBatchResults')) {
    for (const [activityId, shown] of [
      ['wrong', 'wrong'],
      [7, ''],
      [undefined, ''],
    ] as const) {
      await t.rejects(ask(message, { activityId, batchId: 'b', exeScript: [] }), {
        kind: 'service',
        message: `Forbidden! Invalid activity id: ${shown}`,
      });
    }
  }
  const { stream } = handlers.StreamExecBatchResults as Extract<Binding, { stream: unknown }>;
  t.throws(() => stream({ activity_id: 'wrong', batch_id: 'b' }, CALL), {
    message: 'Bad request: Remote service error: Forbidden! Invalid activity id: wrong',
  });
  t.throws(
    () => stream({ activityId: 'a1', batchId: 'b' }, CALL),
    /Forbidden/,
    'its names are in snake case',
  );
  t.same(calls, []);
});

t.test('state and usage', async (t) => {
  const { ask, refuseUsage } = setUp();
  t.same(await ask('GetActivityState', { activityId: 'a1', timeout: null }), { state: ['Ready', 'Ready'] });
  const usage = (await ask('GetActivityUsage', { activityId: 'a1' })) as Record<string, Flex>;
  t.same(usage.currentUsage, Float64Array.from([1.5, 0]));
  refuseUsage(new RpcError('usageLimitExceeded', 'too much'));
  await t.rejects(ask('GetActivityUsage', { activityId: 'a1' }), { message: 'too much' });
});

t.test('Exec answers with the batch id; a script that is none is refused', async (t) => {
  const { ask, calls } = setUp();
  t.equal(
    await ask('Exec', { activityId: 'a1', batchId: 'b1', exeScript: [{ deploy: {} }], timeout: null }),
    'b1',
  );
  t.same(calls, [['exec', 'b1', 1]]);
  for (const body of [
    { activityId: 'a1', batchId: 'b2' },
    { activityId: 'a1', batchId: 'b2', exeScript: 'deploy' },
    { activityId: 'a1', batchId: 'b2', exeScript: [{ dance: {} }] },
    { activityId: 'a1', exeScript: [] },
    { activityId: 'a1', batchId: 7, exeScript: [] },
  ]) {
    await t.rejects(ask('Exec', body), { code: /YAVM_E_(SCRIPT|GSB_BODY)/ });
  }
  for (const body of [null, 'x', [], new Uint8Array(3)]) {
    await t.rejects(ask('Exec', body), { code: 'YAVM_E_GSB_BODY' });
  }
  t.equal(calls.length, 1);
});

t.test('results: what no clock counts is no wait, and none outlives a day', async (t) => {
  const { ask, calls } = setUp();
  const given: [Flex | undefined, Flex | undefined, unknown[]][] = [
    [null, null, [null, null]],
    [undefined, undefined, [null, null]],
    [5.5, 2, [5.5, 2]],
    [-1, 0, [0, 0]],
    [Number.NaN, 7n, [0, 7]],
    [Number.POSITIVE_INFINITY, null, [86_400, null]],
    [1e30, null, [86_400, null]],
    [10n ** 30n, 2 ** 40, [86_400, 2 ** 40]],
  ];
  for (const [timeout, commandIndex, expected] of given) {
    await ask('GetExecBatchResults', { activityId: 'a1', batchId: 'b1', timeout, commandIndex });
    t.same(calls.at(-1), ['results', 'b1', ...expected]);
  }
  for (const [timeout, commandIndex] of [
    ['5', null],
    [null, -1],
    [null, 1.5],
    [null, 'x'],
  ] as [Flex, Flex][]) {
    await t.rejects(ask('GetExecBatchResults', { activityId: 'a1', batchId: 'b1', timeout, commandIndex }), {
      code: 'YAVM_E_GSB_BODY',
    });
  }
  t.equal(readTimeout(0), 0);
  t.equal(readIndex(0), 0);
});

t.test('a stream is the batch’s', async (t) => {
  const { handlers, calls } = setUp();
  const { stream } = handlers.StreamExecBatchResults as Extract<Binding, { stream: unknown }>;
  const items: Flex[] = [];
  for await (const item of stream({ activity_id: 'a1', batch_id: 'b1' }, CALL)) items.push(item);
  t.same(items, ['item']);
  t.same(calls, [['stream', 'b1']]);
});
