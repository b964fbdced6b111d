import t from 'tap';
import { outputBytes, Pace } from '../../host/exe-unit/pace.ts';
import type { Flex } from '../../host/gsb/types.ts';

const stdout = (size: number): Flex => ({ batch_id: 'b', kind: { stdout: new Uint8Array(size) } });
const finished: Flex = { batch_id: 'b', kind: { finished: { return_code: 0, message: null } } };

async function* events(...items: Flex[]): AsyncGenerator<Flex> {
  yield* items;
}

/** Takes items until none comes for a turn of the loop. */
function collect(items: AsyncIterable<Flex>): { sizes: number[]; over: () => boolean } {
  const sizes: number[] = [];
  let over = false;
  void (async () => {
    for await (const item of items) sizes.push(outputBytes(item));
    over = true;
  })();
  return { sizes, over: () => over };
}
const settle = () => new Promise((resolve) => setImmediate(resolve));

t.test('no more than a window is under way; what was taken makes room; other events pass', async (t) => {
  const pace = new Pace(100);
  const { sizes, over } = collect(
    pace.follow(events(finished, stdout(60), stdout(60), stdout(10), finished), new AbortController().signal),
  );
  await settle();
  t.same(sizes, [0, 60, 60], 'the last one begins inside the window');
  pace.taken(20);
  await settle();
  t.same(sizes, [0, 60, 60], 'exactly the window is under way');
  pace.taken(21);
  await settle();
  t.same(sizes, [0, 60, 60, 10, 0], 'the rest fits now');
  t.equal(over(), true);
});

t.test('a subscriber that claims more than it was sent, or less than before, gains nothing', async (t) => {
  const pace = new Pace(10);
  const { sizes } = collect(
    pace.follow(events(stdout(10), stdout(10), stdout(10)), new AbortController().signal),
  );
  await settle();
  pace.taken(1e12);
  await settle();
  t.same(sizes, [10, 10]);
  pace.taken(0);
  await settle();
  t.same(sizes, [10, 10]);
  pace.taken(20);
  await settle();
  t.same(sizes, [10, 10, 10]);
});

t.test('when the call ends, nobody waits for room any more', async (t) => {
  const pace = new Pace(1);
  const ended = new AbortController();
  const { sizes, over } = collect(pace.follow(events(stdout(5), stdout(5)), ended.signal));
  await settle();
  t.same(sizes, [5]);
  ended.abort();
  await settle();
  t.equal(over(), true);
});

t.test('the output in an event: text by its bytes, blobs, nothing else', async (t) => {
  t.equal(outputBytes({ kind: { stderr: 'ä' } }), 2);
  t.equal(outputBytes({ kind: { stdout: new Uint8Array(3) } }), 3);
  t.equal(outputBytes({ kind: { progress: {} } }), 0);
  t.equal(outputBytes('text'), 0);
});
