import t, { type Test } from 'tap';
import { type CallInfo, type Flex, RpcError } from '../../host/gsb/types.ts';
import {
  type ActivityEvent,
  ActivityService,
  type ActivityServiceOptions,
} from '../../host/node/activity-service.ts';
import { costOf } from '../../host/node/cost.ts';
import { identify } from '../../host/node/identity-service.ts';
import { ManualClock } from '../lib/manual-clock.ts';

const CALL: CallInfo = {
  caller: 'local',
  address: '/local/activity/x',
  noReply: false,
  signal: new AbortController().signal,
};

function start(t: Test, options: ActivityServiceOptions = {}) {
  const clock = new ManualClock();
  const service = new ActivityService({ clock, ...options });
  const events: ActivityEvent[] = [];
  service.listen((event) => events.push(event));
  t.teardown(() => service.close());
  const state = (current: Flex, pending: Flex = null, more: Record<string, Flex> = {}, activity = 'a') =>
    service.setState(
      {
        activityId: activity,
        state: { state: [current, pending], ...more },
        timeout: null,
        credentials: null,
      },
      CALL,
    );
  const usage = (currentUsage: Flex, activity = 'a') =>
    service.setUsage({ activityId: activity, usage: { currentUsage, timestamp: 1 }, timeout: null }, CALL);
  return { clock, service, events, state, usage };
}

t.test('reports are answered with null, kept, and told with the own clock', (t) => {
  const { clock, service, events, state, usage } = start(t);
  service.announce('a');
  t.match(service.get('a'), { state: ['New', null], usage: null, life: 'new' });
  t.equal(usage([0, 0.5]), null);
  clock.pass(250);
  t.equal(state('Initialized'), null);
  state('Initialized', 'Deployed');
  const began = clock.now() - 250;
  t.same(events, [
    { activity: 'a', time: began, kind: 'usage', usage: [0, 0.5], timestamp: 1 },
    {
      ...{ activity: 'a', time: began + 250, kind: 'state', state: ['Initialized', null] },
      ...{ reason: undefined, errorMessage: undefined },
    },
    {
      ...{ activity: 'a', time: began + 250, kind: 'state', state: ['Initialized', 'Deployed'] },
      ...{ reason: undefined, errorMessage: undefined },
    },
  ]);
  t.match(service.get('a'), {
    ...{ state: ['Initialized', 'Deployed'], usage: [0, 0.5], usageTime: began },
    ...{ usageReports: 1, stateReports: 2, life: 'watched' },
  });
  usage(null);
  t.match(service.get('a'), { usage: [0, 0.5], usageReports: 2 }, 'nothing counted is no news');
  state('Terminated', null, { reason: 'Finished: {}', errorMessage: 'text' });
  t.match(service.get('a'), { life: 'ended', reason: 'Finished: {}', errorMessage: 'text' });
  t.end();
});

t.test('unknown activities: state is refused as yagna does, usage answered and forgotten', (t) => {
  const { service, events, state, usage } = start(t);
  try {
    state('Initialized');
    t.fail('not refused');
  } catch (error) {
    t.ok(error instanceof RpcError);
    t.match(error, { kind: 'service', message: 'DAO error: Diesel error: NotFound' });
  }
  t.equal(usage([1]), null);
  t.equal(service.get('a'), undefined);
  t.same(events, []);
  t.end();
});

t.test('a node for development takes them, up to a number', (t) => {
  const { service, state, usage } = start(t, { acceptUnknown: true });
  usage([1], 'u');
  state('Initialized', null, {}, 's');
  t.same(
    service.activities.map(({ activity }) => activity),
    ['u', 's'],
  );
  for (let index = 2; index < 1024; index++) usage([1], `n${index}`);
  t.throws(() => usage([1], 'one more'), { code: 'YAVM_E_NODE_FULL' });
  service.forget('u');
  usage([1], 'one more');
  t.ok(service.get('one more'));
  t.end();
});

t.test('silence: Unresponsive after 5 s, back with the next usage, dead after 10 s for good', (t) => {
  const { clock, service, events, state, usage } = start(t);
  service.announce('a');
  clock.pass(60_000);
  t.same(events, [], 'nobody is watched before Initialized');
  state('Initialized');
  usage([1]);
  state('Ready', 'Ready');
  clock.pass(5000);
  t.match(service.get('a'), { life: 'watched' }, 'exactly 5 s is not too long');
  clock.pass(1000);
  t.match(events.at(-1), { kind: 'unresponsive', silent: 6000 });
  t.match(service.get('a'), { life: 'unresponsive', state: ['Unresponsive', null] });
  clock.pass(3000);
  usage([2]);
  t.match(events.at(-1), { kind: 'responsive', state: ['Ready', 'Ready'] });
  t.match(service.get('a'), { life: 'watched', state: ['Ready', 'Ready'], usage: [2] });

  clock.pass(20_000);
  t.same(
    events.slice(-2).map(({ kind }) => kind),
    ['unresponsive', 'dead'],
    'each once',
  );
  usage([3]);
  t.match(service.get('a'), { life: 'dead', state: ['Unresponsive', null] }, 'too late');
  state('Terminated');
  t.match(service.get('a'), { life: 'ended', state: ['Terminated', null] });
  clock.pass(60_000);
  t.equal(events.at(-1)?.kind, 'state', 'the ended are not watched');
  t.end();
});

t.test('an activity that never reports usage is dead 10 s after Initialized', (t) => {
  const { clock, service, events, state } = start(t);
  service.announce('a');
  clock.pass(8000);
  state('Initialized');
  clock.pass(5900);
  t.match(service.get('a'), { life: 'watched' });
  clock.pass(6000);
  t.same(
    events.map(({ kind }) => kind),
    ['state', 'unresponsive', 'dead'],
  );
  t.end();
});

t.test('a state that is reported in the silence is the one that comes back', (t) => {
  const { clock, service, state, usage } = start(t);
  service.announce('a');
  state('Initialized');
  clock.pass(6000);
  t.match(service.get('a'), { life: 'unresponsive' });
  state('Deployed');
  usage([1]);
  t.match(service.get('a'), { life: 'watched', state: ['Deployed', null] });
  t.end();
});

t.test('what is no report is refused', (t) => {
  const { service, events } = start(t, { acceptUnknown: true });
  const states: Flex[] = [
    null,
    'text',
    [],
    {},
    { activityId: 1, state: { state: ['New', null] } },
    { activityId: 'a' },
    { activityId: 'a', state: { state: ['New'] } },
    { activityId: 'a', state: { state: ['Nowhere', null] } },
    { activityId: 'a', state: { state: ['New', 7] } },
    { activityId: 'a', state: { state: ['New', null], reason: 7 } },
  ];
  for (const body of states) t.throws(() => service.setState(body, CALL), { code: 'YAVM_E_NODE_MESSAGE' });
  const usages: Flex[] = [
    null,
    { activityId: 'a', usage: null },
    { activityId: 'a', usage: { currentUsage: [1] } },
    { activityId: 'a', usage: { currentUsage: 'x', timestamp: 1 } },
    { activityId: 'a', usage: { currentUsage: [1, 'x'], timestamp: 1 } },
    { activityId: 'a', usage: { currentUsage: new Float64Array([Number.NaN]), timestamp: 1 } },
    { activityId: 'a', usage: { currentUsage: new Array(65).fill(1), timestamp: 1 } },
  ];
  for (const body of usages) t.throws(() => service.setUsage(body, CALL), { code: 'YAVM_E_NODE_MESSAGE' });
  t.same(events, []);
  t.end();
});

t.test('reached: at once, later, not in time, given up', async (t) => {
  const { service, state } = start(t);
  service.announce('a');
  const isInitialized = ({ state }: { state: readonly unknown[] }) => state[0] === 'Initialized';
  const options = { deadline: 60_000, what: 'Initialized' };
  const waiting = service.reached('a', isInitialized, options);
  state('Initialized');
  t.match(await waiting, { state: ['Initialized', null] });
  t.match(await service.reached('a', isInitialized, options), { activity: 'a' });
  await t.rejects(
    service.reached('b', () => true, { deadline: 1, what: 'b' }),
    { code: 'YAVM_E_TIMEOUT' },
  );
  const stop = new AbortController();
  const given = service.reached('a', () => false, { ...options, signal: stop.signal });
  stop.abort(new Error('enough'));
  await t.rejects(given, { message: 'enough' });
});

t.test('the identity: by default, by id, by name, and nobody else', (t) => {
  const identity = { nodeId: `0x${'ab'.repeat(20)}`, alias: 'me' };
  const told = { alias: 'me', nodeId: identity.nodeId, isLocked: false, isDefault: true, deleted: false };
  t.same(identify('byDefault', identity), told);
  t.same(identify({ byNodeId: identity.nodeId.toUpperCase().replace('X', 'x') }, identity), told);
  t.same(identify({ byAlias: 'me' }, identity), told);
  t.equal(identify({ byAlias: 'you' }, identity), null);
  t.equal(identify({ byNodeId: `0x${'00'.repeat(20)}` }, identity), null);
  for (const body of [null, 1, 'byChance', {}, { byAlias: 1 }] as Flex[]) {
    t.throws(() => identify(body, identity), { code: 'YAVM_E_NODE_MESSAGE' });
  }
  t.end();
});

t.test('cost: counters times coefficients, and the price of the start', (t) => {
  t.equal(costOf([10, 2], [0.5, 3, 7]), 18);
  t.equal(costOf([], [7]), 7);
  for (const coefficients of [[1], [1, 2], [1, 2, 3, 4]]) {
    t.throws(() => costOf([1, 2], coefficients), { code: 'YAVM_E_NODE_COST' });
  }
  t.end();
});
