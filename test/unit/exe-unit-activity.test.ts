import { readdirSync } from 'node:fs';
import { mock } from 'node:test';
import t from 'tap';
import { YavmError } from '../../host/lib/errors.ts';
import { deploy, never, run, start, startActivity, terminate } from '../lib/activity.ts';
import { FakeClock } from '../lib/fake-clock.ts';
import { aborted } from '../lib/fake-runtime.ts';

t.test('a batch from deploy to its last command', async (t) => {
  const { exec, results, reports, activity, runtime } = await startActivity(t);
  exec('b1', [deploy, start, run('echo', ['hi']), run('print', ['out', 'err'])]);
  const items = await results('b1');
  t.match(
    items.map(({ index, result, message, isBatchFinished }) => [index, result, message, isBatchFinished]),
    [
      [0, 'Ok', null, false],
      [1, 'Ok', null, false],
      [2, 'Ok', null, false],
      [3, 'Ok', null, true],
    ],
  );
  t.strictSame(
    items.map(({ stdout, stderr }) => [stdout, stderr]),
    [
      [null, null],
      [null, null],
      ['hi\n', null],
      ['out', 'err'],
    ],
  );
  t.match(items[0]?.eventDate, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.strictSame(reports, [
    ['Initialized', null],
    ['Initialized', 'Deployed'],
    ['Deployed', null],
    ['Deployed', 'Ready'],
    ['Ready', null],
    ['Ready', 'Ready'],
    ['Ready', null],
    ['Ready', 'Ready'],
    ['Ready', null],
  ]);
  t.strictSame(runtime.calls, ['deploy', 'start', 'run echo hi', 'run print out err']);
  t.strictSame(activity.state, ['Ready', null]);
});

t.test('a failing command ends its batch, and the state goes on all the same', async (t) => {
  const { exec, results, activity, runtime } = await startActivity(t);
  exec('b1', [deploy, start, run('echo', ['hi']), run('exit', [7], null), run('echo', ['never'])]);
  const items = await results('b1');
  t.equal(items.length, 4);
  t.match(items[3], {
    index: 3,
    result: 'Error',
    message: 'ExeScript command exited with code 7',
    stdout: null,
    isBatchFinished: true,
  });
  t.strictSame(activity.state, ['Ready', null]);
  t.notOk(runtime.calls.includes('run echo never'));

  exec('b2', [terminate]);
  await results('b2');
  runtime.onDeploy = async () => {
    throw new YavmError('YAVM_E_TRANSFER_HASH', 'the image is not what it should be', { hint: 'secret' });
  };
  exec('b3', [deploy]);
  t.match(await results('b3'), [
    {
      result: 'Error',
      message:
        /^Local service error: Transfer error: the image is not what it should be \(YAVM_E_TRANSFER_HASH\)$/,
    },
  ]);
  t.strictSame(activity.state, ['Deployed', null], 'a failed deploy leaves it deployed');
});

t.test('wrong order, busy, sign, and unknown programs, as upstream words them', async (t) => {
  const { exec, results, runtime } = await startActivity(t);
  const message = async (id: string, script: unknown[]) => {
    exec(id, script);
    return (await results(id)).at(-1)?.message;
  };
  const state = 'Local service error: State error: ';
  t.equal(
    await message('e1', [run('echo')]),
    `${state}Activity is initialized - deploy() command is expected now`,
  );
  t.equal(
    await message('e2', [{ sign: {} }]),
    "signing not supported: binary built without the 'sgx' feature",
  );
  t.equal(await message('e3', [start]), `${state}Activity is initialized - deploy() command is expected now`);
  t.equal(
    await message('e4', [deploy, deploy]),
    `${state}Activity is deployed - start() command is expected now`,
  );
  t.equal(await message('e6', [start, start]), `${state}Cannot send command after a successful start()`);
  t.equal(await message('e7', [run('/no/such')]), 'Runtime error: no such program: /no/such');
  runtime.onTransfer = async () => {
    throw new YavmError('YAVM_E_UNSUPPORTED', 'Unsupported scheme: ftp');
  };
  t.equal(
    await message('e9', [{ transfer: { from: 'ftp://x/y', to: 'container:/a' } }]),
    'Local service error: Transfer error: Unsupported scheme: ftp (YAVM_E_UNSUPPORTED)',
  );
  exec('f1', [run('hang')]);
  while (!runtime.calls.includes('run hang')) await turn();
  t.equal(await message('f2', [run('echo')]), `${state}Busy: StatePair(Ready, Some(Ready))`);
});

t.test('answers about batches and commands that are not there', async (t) => {
  const { activity, exec, results } = await startActivity(t);
  await t.rejects(activity.results('x', 1, null, never), { kind: 'notFound', message: 'batch_id = x' });
  t.throws(() => activity.stream('x', never), { message: 'Bad request: Unknown batch: x' });
  t.throws(() => activity.running(), {
    kind: 'notFound',
    message: 'No running command within activity: a1',
  });
  exec('e0', []);
  t.strictSame(await results('e0'), []);
  t.throws(() => exec('e0', [deploy]), { kind: 'badRequest', message: 'Batch e0 already exists' });
  await t.rejects(activity.results('e0', 1, -1, never), { kind: 'badRequest', message: /YAVM_E_INDEX/ });
});

t.test('the running command', async (t) => {
  const { activity, exec, runtime } = await startActivity(t);
  exec('b1', [deploy, { start: { args: ['x'] } }, run('hang', ['now'])]);
  let deployed = () => {};
  runtime.onDeploy = () => new Promise((resolve) => (deployed = resolve));
  while (!runtime.calls.includes('deploy')) await turn();
  t.strictSame(activity.running(), [{ command: 'Deploy', params: undefined }]);
  deployed();
  while (!runtime.calls.includes('run hang now')) await turn();
  t.strictSame(activity.running(), [{ command: 'Run', params: ['hang', 'now'] }]);
});

t.test('200 commands in a batch, and many batches one after the other', async (t) => {
  const { exec, results } = await startActivity(t);
  exec('b1', [deploy, start, ...Array.from({ length: 200 }, (_, index) => run('echo', [index]))]);
  const items = await results('b1');
  t.equal(items.length, 202);
  t.strictSame(
    items.slice(2).map(({ stdout }) => stdout),
    Array.from({ length: 200 }, (_, index) => `${index}\n`),
  );
  for (let round = 0; round < 50; round++) {
    exec(`c${round}`, [run('echo', [round])]);
    t.equal((await results(`c${round}`))[0]?.stdout, `${round}\n`);
  }
});

t.test('terminate ends the running command of another batch, visibly, and its batch', async (t) => {
  const { activity, exec, results, reports, runtime } = await startActivity(t);
  exec('b1', [deploy, start, run('hang', ['begin\n']), run('echo', ['never'])]);
  while (!runtime.calls.includes('run hang begin\n')) await turn();
  exec('b2', [terminate, deploy, start, run('echo', ['again'])]);
  t.equal((await results('b2')).at(-1)?.stdout, 'again\n');
  const items = await results('b1');
  t.equal(items.length, 3);
  t.match(items[2], {
    result: 'Error',
    stdout: 'begin\n',
    isBatchFinished: true,
    message:
      /^Local service error: State error: Unexpected state: StatePair\(\w+, .+\), expected StatePair\(Ready, Some\(Ready\)\)$/,
  });
  t.strictSame(activity.state, ['Ready', null]);
  t.ok(reports.some(([current, pending], at) => at > 4 && current === 'Initialized' && pending === null));
  t.notOk(runtime.calls.includes('run echo never'));
  t.throws(() => activity.running(), { kind: 'notFound', message: /^No running command/ });
});

for (const kind of ['deploy', 'start'] as const) {
  t.test(`terminate during ${kind}`, async (t) => {
    const { activity, exec, results, runtime } = await startActivity(t);
    const hang = (_a: unknown, _b: unknown, signal: AbortSignal) => aborted(signal);
    if (kind === 'deploy') runtime.onDeploy = hang;
    else runtime.onStart = hang;
    exec('b1', [deploy, start, run('echo')]);
    while (!runtime.calls.includes(kind)) await turn();
    exec('b2', [terminate]);
    t.match(await results('b2'), [{ result: 'Ok', message: null }]);
    t.match((await results('b1')).at(-1)?.message, /Unexpected state: StatePair\(Initialized, None\)/);
    t.strictSame(activity.state, ['Initialized', null]);
  });
}

t.test('a terminate in the middle of its own batch, and two at once', async (t) => {
  const { activity, exec, results, runtime } = await startActivity(t);
  exec('b1', [deploy, terminate, deploy, start, terminate]);
  t.equal((await results('b1')).filter(({ result }) => result === 'Ok').length, 5);
  t.strictSame(activity.state, ['Initialized', null]);
  let stopped = () => {};
  runtime.onStop = () => new Promise((resolve) => (stopped = resolve));
  exec('b2', [terminate]);
  exec('queued', [deploy, start]);
  while (runtime.calls.filter((call) => call === 'stop').length < 3) await turn();
  exec('b3', [terminate]);
  exec('b4', [deploy]);
  while (activity.running().length < 2) await turn();
  stopped();
  t.match(await results('b2'), [{ result: 'Ok' }]);
  t.match(await results('b3'), [{ result: 'Ok' }]);
  t.equal(runtime.calls.filter((call) => call === 'stop').length, 3, 'the second joins the first');
  t.match(await results('b4'), [{ result: 'Ok' }], 'a deploy that came in the meantime waits');
  t.match(
    await results('queued'),
    [{ result: 'Error', message: /YAVM_E_TERMINATED/, isBatchFinished: true }],
    'a batch that had not begun ends visibly',
  );
});

t.test('a runtime that ignores being aborted does not hold the batch up', async (t) => {
  const clock = new FakeClock();
  const { activity, exec, runtime } = await startActivity(t, { clock });
  runtime.programs.set('deaf', () => new Promise(() => {}));
  exec('b1', [deploy, start, run('deaf')]);
  while (!runtime.calls.includes('run deaf')) await turn();
  exec('b2', [terminate]);
  while (activity.state[0] !== 'Initialized') await turn();
  const waiting = activity.results('b1', 60, null, never);
  clock.pass(5000);
  t.match((await waiting) as unknown[], [{}, {}, { message: /Unexpected state/ }]);
});

t.test(
  "a node that answers late delays the command; the one that never does is the reporter's task",
  async (t) => {
    let answer = () => {};
    const { exec, results, runtime, reports } = await startActivity(t, {
      reportState: ([, pending]) =>
        pending === 'Deployed' ? new Promise((resolve) => (answer = resolve)) : Promise.resolve(),
    });
    exec('b1', [deploy]);
    while (reports.length < 2) await turn();
    t.strictSame(runtime.calls, [], 'deploy waits for the acknowledgement');
    answer();
    await results('b1');
    t.strictSame(runtime.calls, ['deploy']);
  },
);

t.test('shutdown: counts, no command left, nothing told any more, nothing on disk', async (t) => {
  const { activity, exec, runtime, reports, folder } = await startActivity(t);
  exec('b1', [deploy, start, run('bytes', [300_000]), run('hang', ['begin\n']), run('echo', ['never'])]);
  while (!runtime.calls.includes('run hang begin\n')) await turn();
  const gone = new AbortController();
  let answered = false;
  const waiting = activity.results('b1', 1000, null, gone.signal).finally(() => (answered = true));
  const counts = await activity.shutdown(2000);
  t.strictSame(counts, { batches_done: 0, batches_pending: 1, cmds_done: 3, cmds_pending: 2 });
  t.equal(await activity.shutdown(2000), counts, 'a second call joins the first');
  t.strictSame(reports.at(-1), ['Ready', 'Terminated']);
  t.strictSame(activity.state, ['Terminated', null]);
  t.ok(runtime.calls.includes('stop'));
  t.strictSame(readdirSync(folder), []);
  await turn();
  t.notOk(answered, 'who waits is answered by the bus');
  gone.abort(new Error('closed'));
  await t.rejects(waiting, { message: 'closed' });
  t.throws(() => exec('b2', [deploy]), {
    kind: 'service',
    message: /Terminated state \(YAVM_E_TERMINATED\)$/,
  });
});

t.test('shutdown is over in time with a runtime and a node that hang', async (t) => {
  const clock = new FakeClock();
  const { activity, exec, runtime } = await startActivity(t, {
    clock,
    reportState: ([, pending]) => (pending === 'Terminated' ? new Promise(() => {}) : Promise.resolve()),
  });
  runtime.programs.set('deaf', () => new Promise(() => {}));
  runtime.onStop = () => new Promise(() => {});
  exec('b1', [deploy, start, run('deaf')]);
  while (!runtime.calls.includes('run deaf')) await turn();
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  let over = false;
  const ending = activity.shutdown(400).finally(() => (over = true));
  let passed = 0;
  for (; passed < 5000 && !over; passed += 10) {
    clock.pass(10);
    mock.timers.tick(10);
    await turn();
  }
  t.ok(over && passed >= 390 && passed < 1500, `${passed} ms`);
  await ending;
  t.strictSame(activity.state, ['Terminated', null]);
});

t.test('what is too much is refused, or the oldest is forgotten', async (t) => {
  const { activity, exec, results, runtime } = await startActivity(t, {
    limits: { batches: 5, running: 2, scripts: 4000 },
  });
  for (let batch = 0; batch < 8; batch++) {
    exec(`b${batch}`, [{ sign: {} }]);
    await results(`b${batch}`);
  }
  await t.rejects(activity.results('b0', 0, null, never), { kind: 'notFound', message: 'batch_id = b0' });
  t.equal((await results('b7')).length, 1);
  exec('long', [deploy, start, run('hang')]);
  while (!runtime.calls.includes('run hang')) await turn();
  exec('second', [{ sign: {} }]);
  await results('second');
  t.throws(() => exec('huge', [run('echo', ['x'.repeat(5000)])]), {
    kind: 'service',
    message: /YAVM_E_BATCH_LIMIT/,
  });
});

/** Lets everything that can happen happen once. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
