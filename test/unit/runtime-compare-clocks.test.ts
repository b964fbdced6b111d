import t from 'tap';
import { compareClocks } from '../../host/runtime/compare-clocks.ts';

/** A host whose clock is `offset` ahead of the guest's uptime, and whose questions take `ways`: there and back, milliseconds. */
function answering(offset: number, ways: readonly [there: number, back: number][]) {
  let uptime = 1000;
  let asked = 0;
  const ping = async () => {
    const [there, back] = ways[Math.min(asked++, ways.length - 1)] as [number, number];
    uptime += there;
    const answer = uptime;
    uptime += back;
    return answer;
  };
  return { ping, now: () => uptime + offset, asked: () => asked };
}

t.test('a quick answer is enough', async (t) => {
  const host = answering(5000, [[4, 4]]);
  t.strictSame(await compareClocks(host.ping, host.now), { now: 6004, uptime: 1004 });
  t.equal(host.asked(), 1);
});

t.test('of slow ones the quickest counts', async (t) => {
  const ways: [number, number][] = [
    [200, 10],
    [20, 20],
    [10, 300],
  ];
  const host = answering(5000, [...ways, [90, 0]]);
  const { now, uptime } = await compareClocks(host.ping, host.now);
  t.equal(now - uptime, 5000, 'that of 40 ms, which was as long there as back');
  t.equal(host.asked(), 6, 'and no more than so many are asked');
});

t.test('the error is half of the answer at most', async (t) => {
  const host = answering(5000, [[0, 8]]);
  const { now, uptime } = await compareClocks(host.ping, host.now);
  t.equal(now - uptime, 5004);
});
