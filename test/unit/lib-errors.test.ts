import t from 'tap';
import { sleep, withDeadline } from '../../host/lib/deadline.ts';
import {
  describeError,
  findYavmError,
  hasErrno,
  isAbortError,
  isYavmError,
  receivedCode,
  toError,
  YavmError,
} from '../../host/lib/errors.ts';

t.test('an error says what failed, why, its code, and what to do', async (t) => {
  const cause = Object.assign(new Error("EACCES: permission denied, open 'x.gvmi'"), { code: 'EACCES' });
  const error = new YavmError('YAVM_E_IMAGE', 'x.gvmi: cannot be read', { cause, hint: 'chmod a+r x.gvmi' });
  t.equal(
    describeError(error),
    "x.gvmi: cannot be read: EACCES: permission denied, open 'x.gvmi' (YAVM_E_IMAGE)\n  hint: chmod a+r x.gvmi",
  );
});

t.test('the innermost causes are named, once each, with the outermost code', async (t) => {
  const inner = new YavmError('YAVM_E_DISK_FULL', 'the disk is full', { hint: 'Make room.' });
  const middle = new Error('the disk is full', { cause: inner });
  const outer = new YavmError('YAVM_E_ROOT_DISK', 'no VM', { cause: middle });
  t.equal(describeError(outer), 'no VM: the disk is full (YAVM_E_ROOT_DISK)\n  hint: Make room.');
  t.equal(findYavmError(new Error('x', { cause: inner })), inner);
});

t.test('the code stands on the first line of a message with several', async (t) => {
  const error = new YavmError('YAVM_E_GUEST_PANIC', 'panicked\n  the console:\n    $& oops', {
    hint: 'Look.',
  });
  t.equal(describeError(error), 'panicked (YAVM_E_GUEST_PANIC)\n  the console:\n    $& oops\n  hint: Look.');
});

t.test('anything that is thrown can be described', async (t) => {
  t.equal(describeError('text'), 'text');
  t.equal(describeError(undefined), 'undefined');
  t.equal(describeError(new TypeError()), 'TypeError');
  t.equal(describeError(new AggregateError([new Error('a'), new Error('b')])), 'a; b');
  t.equal(toError(7).message, '7');
});

t.test('a chain of causes that loops ends', async (t) => {
  const first = new Error('first');
  first.cause = new Error('second', { cause: first });
  t.equal(describeError(first), 'first: second');
});

t.test('guards tell errors apart', async (t) => {
  const error = new YavmError('YAVM_E_IMAGE', 'a');
  t.equal(isYavmError(error), true);
  t.equal(isYavmError(error, 'YAVM_E_IMAGE'), true);
  t.equal(isYavmError(error, 'YAVM_E_IMAGE_FORMAT'), false);
  t.equal(isYavmError(new Error('a')), false);
  t.equal(hasErrno(Object.assign(new Error('x'), { code: 'ENOENT' }), 'ENOENT'), true);
  t.equal(hasErrno(new Error('x'), 'ENOENT'), false);
  t.equal(isAbortError(AbortSignal.abort().reason), true);
  t.equal(isAbortError(error), false);
});

t.test('a code of another program is taken when it looks like one', async (t) => {
  t.equal(receivedCode('YAVM_E_IMAGE'), 'YAVM_E_IMAGE');
  t.equal(receivedCode('YAVM_E_OF_A_NEWER_VERSION'), 'YAVM_E_OF_A_NEWER_VERSION');
  for (const no of ['ENOENT', 'YAVM_E_', 'YAVM_E_x', `YAVM_E_${'X'.repeat(58)}`, 7, undefined]) {
    t.equal(receivedCode(no), null, String(no));
  }
});

t.test('a wait ends at its deadline, names what it waited for, and tells the work to stop', async (t) => {
  let stopped: unknown;
  const work = (signal: AbortSignal) =>
    new Promise<never>(() => {
      signal.addEventListener('abort', () => {
        stopped = signal.reason;
      });
    });
  const error = await withDeadline(work, 20, "the guest's agent", { hint: 'Look.' }).catch((error) => error);
  t.match(error, {
    code: 'YAVM_E_TIMEOUT',
    message: "no answer of the guest's agent within 20 ms",
    hint: 'Look.',
  });
  t.equal(stopped, error);
});

t.test('a wait that ends in time returns its value, or throws its error', async (t) => {
  t.equal(await withDeadline(Promise.resolve(7), 1000, 'x'), 7);
  t.equal(await withDeadline(async () => 8, 1000, 'x'), 8);
  t.equal(
    await withDeadline(
      sleep(5).then(() => 9),
      Number.POSITIVE_INFINITY,
      'x',
    ),
    9,
  );
  await t.rejects(withDeadline(Promise.reject(new Error('own')), 1000, 'x'), { message: 'own' });
  await t.rejects(
    withDeadline(
      () => {
        throw new Error('at once');
      },
      1000,
      'x',
    ),
    { message: 'at once' },
  );
});

t.test('a signal ends a wait early, and a late rejection of the work is no crash', async (t) => {
  const abort = new AbortController();
  const work = sleep(30).then(() => Promise.reject(new Error('late')));
  const wait = withDeadline(work, 1000, 'x', { signal: abort.signal });
  abort.abort(new Error('stop'));
  await t.rejects(wait, { message: 'stop' });
  await t.rejects(withDeadline(Promise.resolve(1), 1000, 'x', { signal: abort.signal }), { message: 'stop' });
  await sleep(50);
});

t.test('no wait leaves a timer behind', async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  await withDeadline(Promise.resolve(), 60_000, 'x');
  await withDeadline(Promise.reject(new Error('x')), 60_000, 'x').catch(() => {});
  const abort = new AbortController();
  const sleeping = sleep(60_000, abort.signal);
  abort.abort(new Error('woken'));
  await t.rejects(sleeping, { message: 'woken' });
  await t.rejects(sleep(1, AbortSignal.abort(new Error('before'))), { message: 'before' });
  t.equal(timers(), before);
});
