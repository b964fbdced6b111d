/** Output that comes while a subscriber is about to wait for it: in each of the turns between looking and waiting. */
import t from 'tap';
import { withDeadline } from '../../host/lib/deadline.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { deploy, type EventItem, never, run, start, startActivity } from '../lib/activity.ts';

/** More turns than the generators need from "nothing there" to the wait. */
const TURNS = 40;

t.test('what comes in between is not missed', async (t) => {
  const { activity, exec, results, runtime } = await startActivity(t);
  let asked = deferred<void>();
  runtime.programs.set('late', async ({ args: [turns = '0'] }, { stdout }) => {
    await asked.promise;
    for (let turn = 0; turn < Number(turns); turn++) await null;
    await stdout?.(Buffer.from('x'));
    await ended.promise;
    return { exitCode: 0 };
  });
  let ended = deferred<void>();
  exec('first', [deploy, start]);
  await results('first');
  for (let turns = 0; turns < TURNS; turns++) {
    [asked, ended] = [deferred<void>(), deferred<void>()];
    const batch = `b${turns}`;
    exec(batch, [run('late', [turns], { stream: {} })]);
    const events = activity.stream(batch, never)[Symbol.asyncIterator]();
    await events.next();
    const next = events.next();
    asked.resolve();
    const { value } = await withDeadline(next, 5000, `output after ${turns} turns`);
    t.same((value as unknown as EventItem).kind, { stdout: 'x' }, `after ${turns} turns`);
    ended.resolve();
    await results(batch);
  }
});
