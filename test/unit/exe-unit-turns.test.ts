import t from 'tap';
import { Turns } from '../../host/exe-unit/turns.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { deploy, never, run, start, startActivity } from '../lib/activity.ts';

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

t.test('one answer at a time, in order, each when there is room; a failure is its own', async (t) => {
  const turns = new Turns();
  const room = deferred<void>();
  const made: string[] = [];
  const make = (name: string) => async () => {
    made.push(name);
    if (name === 'bad') throw new Error('bad');
    return name;
  };
  const ready = async () => {};
  const first = turns.take(() => room.promise, make('first'));
  const bad = t.rejects(turns.take(ready, make('bad')), { message: 'bad' });
  const last = turns.take(ready, make('last'));
  await turn();
  t.same(made, [], 'there is no room yet');
  room.resolve();
  t.equal(await first, 'first');
  t.same(made, ['first'], 'who got it may send it before the next one is made');
  await bad;
  t.equal(await last, 'last');
  t.same(made, ['first', 'bad', 'last']);
});

t.test('many who ask for results at once: the next one is read when the last one was sent', async (t) => {
  const { activity, exec, results } = await startActivity(t);
  exec('b1', [deploy, start, run('echo', ['hi'])]);
  await results('b1');
  const rooms = Array.from({ length: 3 }, () => deferred<void>());
  let answered = 0;
  const asked = rooms.map(({ promise }) =>
    activity.results('b1', null, null, never, () => promise).then(() => answered++),
  );
  for (const [index, room] of rooms.entries()) {
    await turn();
    t.equal(answered, index);
    room.resolve();
    await asked[index];
  }
});
