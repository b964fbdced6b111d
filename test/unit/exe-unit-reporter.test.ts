import { mock } from 'node:test';
import t from 'tap';
import { Reporter } from '../../host/exe-unit/reporter.ts';
import { everySecond } from '../../host/exe-unit/ticks.ts';
import { type FlexInt, type FlexMap, RpcError } from '../../host/gsb/types.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { FakeBus, type FakeCall } from '../lib/supervisor-bus.ts';
import { keepingLogger } from '../lib/supervisor-log.ts';

function setUp(usage: () => number[] | null = () => [1.5, 0.1]) {
  const gsb = new FakeBus();
  const { logger, records } = keepingLogger();
  const reporter = new Reporter({ gsb, reportUrl: '/local/activity', activityId: 'a1', usage, logger });
  return { gsb, reporter, records, warnings: () => records.filter(({ level }) => level === 'warn') };
}

t.test('a state goes out at once, with a reason only when there is one', async (t) => {
  const { gsb, reporter } = setUp();
  const reported = reporter.state(['Initialized', null]);
  t.equal(gsb.calls.length, 1, 'before anything is waited for');
  await reported;
  await reporter.state(['Terminated', null], { reason: 'Finished', errorMessage: 'none' });
  t.match(gsb.calls, [
    {
      address: '/local/activity/SetActivityState',
      body: { activityId: 'a1', state: { state: ['Initialized', null] }, timeout: null, credentials: null },
    },
    { body: { state: { state: ['Terminated', null], reason: 'Finished', errorMessage: 'none' } } },
  ]);
  t.notOk(JSON.stringify(gsb.calls[0]).includes('reason'));
});

t.test('usage: floats in the order given, and the time in seconds', async (t) => {
  const { gsb, reporter } = setUp();
  const before = Math.floor(Date.now() / 1000);
  await reporter.usage();
  const { activityId, usage, timeout } = (gsb.calls[0] as FakeCall).body;
  t.equal(gsb.calls[0]?.address, '/local/activity/SetActivityUsage');
  t.equal(activityId, 'a1');
  t.equal(timeout, null);
  const { currentUsage, timestamp } = usage as FlexMap;
  t.same(currentUsage, Float64Array.from([1.5, 0.1]));
  const seconds = Number((timestamp as FlexInt).value);
  t.ok(seconds >= before && seconds <= Date.now() / 1000);
});

t.test('a report that fails is logged and ends nothing; many alike are logged once in a while', async (t) => {
  const { gsb, reporter, records, warnings } = setUp();
  gsb.answer = () => {
    throw new RpcError('service', 'refused');
  };
  await reporter.state(['Ready', null]);
  t.match(warnings(), [{ message: 'the state was not reported' }]);
  for (let tick = 0; tick < 61; tick++) await reporter.usage();
  t.equal(warnings().length, 3);
  gsb.answer = () => null;
  await reporter.usage();
  t.match(records.at(-1), { level: 'info', fields: { after: 61 }, message: 'usage is reported again' });
});

t.test('the calls have a deadline, shorter at the end', async (t) => {
  const { gsb, reporter } = setUp();
  await reporter.usage();
  reporter.hurry(400);
  await reporter.state(['Ready', 'Terminated']);
  t.same(
    gsb.calls.map(({ options }) => options.deadline),
    [5000, 400],
  );
});

t.test('before the first connection reports are handed to the bus, which sends them then', async (t) => {
  const { gsb, reporter } = setUp();
  gsb.state = 'down';
  void reporter.state(['Initialized', null]);
  gsb.go('up');
  t.same(gsb.messages, ['SetActivityState'], 'and not a second time');
});

t.test('after a reconnect: usage first, then what the state is by now', async (t) => {
  const { gsb, reporter } = setUp();
  await reporter.state(['Ready', null]);
  gsb.go('up');
  gsb.go('down', new YavmError('YAVM_E_GSB_CLOSED', 'gone'));
  await reporter.usage();
  await reporter.state(['Ready', 'Ready']);
  await reporter.state(['Ready', null]);
  t.equal(gsb.calls.length, 1, 'while it is gone nobody is called, and nobody waits');
  gsb.go('up');
  t.same(gsb.messages.slice(1), ['SetActivityUsage', 'SetActivityState']);
  t.match(gsb.calls[2]?.body, { state: { state: ['Ready', null] } });
});

t.test('no vector, no report; a reporter that was closed follows the bus no more', async (t) => {
  const { gsb, reporter } = setUp(() => null);
  await reporter.usage();
  t.equal(gsb.calls.length, 0);
  reporter.close();
  t.equal(gsb.listeners, 0);
});

t.test('a tick each second of the process, none to make up for', async (t) => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  t.teardown(() => mock.timers.reset());
  let ticks = 0;
  const stop = everySecond(() => ticks++, 150);
  mock.timers.tick(849);
  t.equal(ticks, 0);
  mock.timers.tick(1);
  t.equal(ticks, 1, 'one second after the start of the process');
  mock.timers.tick(3000);
  t.equal(ticks, 4);
  stop();
  mock.timers.tick(5000);
  t.equal(ticks, 4);
});
