import { mock } from 'node:test';
import t, { type Test } from 'tap';
import type { ShutdownCounts } from '../../host/exe-unit/activity.ts';
import {
  END_DEADLINE,
  Ending,
  endActivity,
  endInTime,
  finalReason,
  watchProcess,
} from '../../host/exe-unit/shutdown.ts';
import { keepingLogger } from '../lib/supervisor-log.ts';

const COUNTS: ShutdownCounts = { batches_done: 1, batches_pending: 0, cmds_done: 2, cmds_pending: 3 };

interface Steps {
  shutdown?: () => Promise<ShutdownCounts>;
  leave?: () => Promise<void>;
}

/** Runs an end, and tells its steps in their order. */
async function end(why: string, { shutdown = async () => COUNTS, leave = async () => {} }: Steps = {}) {
  const steps: string[] = [];
  const step = (name: string) => {
    steps.push(name);
  };
  const { logger, records } = keepingLogger();
  await endActivity(why, {
    activity: {
      shutdown(milliseconds) {
        step(`shutdown ${milliseconds}`);
        return shutdown();
      },
    },
    kill: async () => step('kill'),
    reporter: {
      hurry: (milliseconds) => step(`hurry ${milliseconds}`),
      usage: async () => step('usage'),
      state: async ([state], { reason }) => step(`${state} ${reason}`),
      close: () => step('close'),
    },
    leave: () => {
      step('leave');
      return leave();
    },
    logger,
  });
  return { steps, records };
}

/** Time stands still until it is told to pass. */
function stopTime(t: Test): { pass(milliseconds: number): Promise<void> } {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  return {
    async pass(milliseconds) {
      mock.timers.tick(milliseconds);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

t.test('the reason is upstream’s: why, and the counters', async (t) => {
  t.equal(
    finalReason('Interrupted by signal: 15', COUNTS),
    'Interrupted by signal: 15: {"batches_done":1,"batches_pending":0,"cmds_done":2,"cmds_pending":3}',
  );
});

t.test('in order: the VM, the last usage, Terminated, the bus', async (t) => {
  const { steps } = await end('Finished');
  t.same(steps, [
    'hurry 400',
    'shutdown 2000',
    'usage',
    `Terminated Finished: ${JSON.stringify(COUNTS)}`,
    'close',
    'leave',
  ]);
});

t.test('an activity that does not end is given up, and its VM killed; the report still comes', async (t) => {
  const time = stopTime(t);
  let over = false;
  const ending = end('x', { shutdown: () => new Promise(() => {}) }).finally(() => (over = true));
  await time.pass(2499);
  t.equal(over, false);
  await time.pass(1);
  t.equal(over, true, 'a killed VM is not waited for');
  const { steps, records } = await ending;
  t.same(steps.slice(1), [
    'shutdown 2000',
    'kill',
    'usage',
    'Terminated x: {"batches_done":0,"batches_pending":0,"cmds_done":0,"cmds_pending":0}',
    'close',
    'leave',
  ]);
  t.match(records, [{}, { level: 'warn', message: /the activity to end/ }]);
});

t.test('what fails in between is logged, the rest goes on', async (t) => {
  const { steps, records } = await end('x', {
    shutdown: () => Promise.reject(new Error('broken')),
    leave: () => Promise.reject(new Error('gone already')),
  });
  t.same(steps.at(-1), 'leave');
  t.match(
    records.filter(({ level }) => level === 'warn').map(({ fields }) => fields),
    [{ err: { message: 'broken' } }, { err: { message: 'gone already' } }],
  );
});

t.test('an end without an end is left behind', async (t) => {
  t.equal(await endInTime(Promise.resolve()), true);
  t.ok(END_DEADLINE < 4500, 'the provider kills after 5 s');
  const time = stopTime(t);
  let inTime: boolean | undefined;
  void endInTime(new Promise(() => {})).then((is) => (inTime = is));
  await time.pass(END_DEADLINE - 1);
  t.equal(inTime, undefined);
  await time.pass(1);
  t.equal(inTime, false);
});

t.test('signals: the first gives the reason, the second changes nothing', async (t) => {
  const ending = new Ending();
  const { logger, records } = keepingLogger();
  const before = process.listenerCount('SIGTERM');
  const unwatch = watchProcess(ending, logger);
  t.teardown(unwatch);
  t.equal(ending.asked, false);
  process.emit('SIGINT', 'SIGINT');
  process.emit('SIGTERM', 'SIGTERM');
  t.equal(await ending.reason, 'Interrupted by signal: 2');
  t.equal(ending.asked, true);
  t.match(records, [{ fields: { again: false } }, { fields: { again: true } }]);
  unwatch();
  t.equal(process.listenerCount('SIGTERM'), before);
});

t.test('each of upstream’s signals ends the activity', async (t) => {
  for (const [name, number] of [
    ['SIGTERM', 15],
    ['SIGQUIT', 3],
    ['SIGABRT', 6],
    ['SIGHUP', 1],
  ] as const) {
    const ending = new Ending();
    const unwatch = watchProcess(ending, keepingLogger().logger);
    process.emit(name, name);
    unwatch();
    t.equal(await ending.reason, `Interrupted by signal: ${number}`);
  }
});

t.test('a bug ends the activity in order, and other handlers come back afterwards', async (t) => {
  const others = process.listeners('uncaughtException');
  const ending = new Ending();
  const { logger, records } = keepingLogger();
  const unwatch = watchProcess(ending, logger);
  process.emit('uncaughtException', new Error('oops'));
  t.equal(await ending.reason, 'Unexpected error: oops (YAVM_E_INTERNAL)');
  t.match(records, [{ level: 'fatal', fields: { err: { message: 'oops' } } }]);
  unwatch();
  t.same(process.listeners('uncaughtException'), others);
});
