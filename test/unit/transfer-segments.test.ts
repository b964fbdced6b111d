import t from 'tap';
import { type Segment, Segments } from '../../host/transfer/segments.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const MIB = 1024 * 1024;

/** Takes a segment that must be there. */
function take(plan: Segments): Segment {
  const segment = plan.take();
  if (segment === null) throw new Error('nothing to be taken');
  return segment;
}

t.test('segments are handed out from the front; what is settled has no gap', async (t) => {
  const plan = new Segments(10, 100, 40);
  const [first, second] = [take(plan), take(plan)];
  t.match(
    [first, second],
    [
      { at: 10, end: 50 },
      { at: 50, end: 90 },
    ],
  );
  second.at = 90;
  plan.release(second);
  t.strictSame([plan.settled, plan.present], [10, 50]);
  first.at = 30;
  t.strictSame([plan.settled, plan.present], [30, 70]);
  plan.release(first);
  t.match(take(plan), { at: 30, end: 50 }, 'what was left comes first');
  t.match(take(plan), { at: 90, end: 100 });
  t.equal(plan.take(), null, 'too little to be halved');
  t.equal(plan.complete, false);
});

t.test('what is fetched goes on behind its end, unless somebody is there', async (t) => {
  const plan = new Segments(0, 100, 30);
  const first = take(plan);
  const second = take(plan);
  t.ok(plan.extend(first), 'the second is only asked for');
  t.match([first, second], [{ end: 60 }, { at: 30, end: 30 }]);
  const third = take(plan);
  third.tentative = false;
  t.notOk(plan.extend(first));
  third.at = 70;
  plan.release(third);
  t.notOk(plan.extend(first), 'the beginning is there');
  t.equal(plan.reach(first), 60);
  t.match(take(plan), { at: 70, end: 90 });
});

t.test('what lies together is asked for together', async (t) => {
  const plan = new Segments(0, 100, 25);
  const all = [take(plan), take(plan), take(plan)];
  for (const segment of all) plan.release(segment);
  const again = take(plan);
  t.match(again, { at: 0, end: 75 });
  t.equal(plan.reach(again), 100);
});

t.test('the largest part is halved when nothing else is left', async (t) => {
  const plan = new Segments(0, 32 * MIB, 32 * MIB);
  const all = take(plan);
  all.claimed = all.at = 8 * MIB;
  t.match(take(plan), { at: 20 * MIB, end: 32 * MIB });
  t.match(all, { end: 20 * MIB });
  t.match([take(plan), take(plan)], [{ end: 20 * MIB }, { end: 32 * MIB }]);
  t.equal(plan.take(), null, 'four parts of 6 MiB');
});

t.test('a file without a known size; an empty one; segments of another plan', async (t) => {
  const open = new Segments(0, Number.POSITIVE_INFINITY, 10);
  const segment = take(open);
  segment.at = 10;
  t.ok(open.extend(segment));
  t.notOk(open.complete);
  const empty = new Segments(0, 0, 10);
  t.equal(empty.take(), null);
  t.ok(empty.complete);
  empty.release(segment);
  t.ok(empty.complete);
});

t.test('however connections come and go, each byte is fetched once', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = count(2000); round > 0; round--) {
    const total = random.between(1, 200) * MIB;
    const plan = new Segments(
      random.chance(2) ? 0 : random.between(0, total),
      total,
      random.between(1, 64) * MIB,
    );
    let fetched = plan.settled;
    const active: Segment[] = [];
    let wrong = '';
    for (let step = 0; step < 5000 && !plan.complete; step++) {
      const segment = active.length < 4 ? plan.take() : null;
      if (segment) active.push(segment);
      const one = random.pick(active);
      if (one.at === one.end && (one.tentative || !plan.extend(one))) {
        plan.release(one);
        active.splice(active.indexOf(one), 1);
      } else if (random.chance(40)) {
        plan.release(one);
        active.splice(active.indexOf(one), 1);
      } else {
        one.tentative = false;
        const bytes = Math.min(random.between(1, 4 * MIB), one.end - one.at);
        one.claimed = one.at + bytes;
        if (one.claimed > one.end) wrong = 'beyond its end';
        one.at += bytes;
        fetched += bytes;
      }
      if (plan.present !== fetched) wrong = `${plan.present} of ${fetched}`;
      if (plan.settled > plan.present) wrong = 'more settled than there';
    }
    if (!plan.complete || fetched !== total || wrong)
      t.fail(`round ${round}: ${fetched} of ${total} ${wrong}`);
  }
  t.pass('all complete');
});
