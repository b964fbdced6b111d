import t from 'tap';
import { pairsOr } from '../bench/pairs.ts';
import { runTimeline } from '../bench/run-timeline.ts';

const line = (time: number, msg: string, fields: object = {}) =>
  JSON.stringify({ level: 20, time, ...fields, msg });
const step = (name: string, milliseconds: number) => ({ name, milliseconds });

/** A run that was started at 1000. */
const log = (...start: string[]) =>
  [
    line(1300, 'initialized'),
    line(1350, 'boot', { phase: 'accelerator', milliseconds: 2 }),
    line(1380, 'boot', { phase: 'disk', milliseconds: 30 }),
    ...start,
    line(5005, 'boot', { phase: 'file systems', milliseconds: 305 }),
    line(5010, 'command ended', { kind: 'start' }),
    line(5200, 'command ended', { kind: 'run' }),
    line(5300, 'the activity has ended'),
    '',
  ].join('\n');
const BOOTED = log(
  line(1450, 'QEMU answers'),
  line(4700, 'boot', { phase: 'kernel', milliseconds: 3000 }),
  line(4700, 'boot', { phase: 'agent', milliseconds: 200 }),
  line(5000, 'the VM is configured', { steps: [step('clock and entropy', 5), step('root', 150)] }),
);

t.test('a boot', async (t) => {
  t.strictSame(runTimeline(BOOTED, 1000, 5400), {
    ...{ node: 300, 'deploy, disk': 80, QEMU: 70, restore: 0, kernel: 3050, agent: 200 },
    ...{ drivers: 0, mount: 150, configure: 155, run: 195, stop: 200 },
  });
});

t.test('from a template', async (t) => {
  const steps = [step('devices', 90), step('root', 120), step('enter root', 10), step('network', 20)];
  const restored = log(
    line(1450, 'QEMU answers'),
    line(1500, 'boot', { phase: 'restore', milliseconds: 120 }),
    line(5000, 'the VM is configured', { steps }),
  );
  const timeline = runTimeline(restored, 1000, 5400);
  t.match(timeline, { QEMU: 70, restore: 50, kernel: 0, agent: 0, drivers: 90, mount: 130, configure: 3285 });
  t.equal(
    Object.values(timeline).reduce((sum, milliseconds) => sum + milliseconds, 0),
    4400,
    'together they are the whole',
  );
});

t.test('QEMU that does not tell when it answers is part of what follows', async (t) => {
  t.match(runTimeline(BOOTED.replace('QEMU answers', 'x'), 1000, 5400), { QEMU: 0, kernel: 3120 });
});

t.test('logs of something else', async (t) => {
  t.throws(() => runTimeline(log(), 1000, 5400), /when "agent" was over/);
  t.throws(() => runTimeline('', 1000, 5400), /when "initialized" was over/);
  t.throws(() => runTimeline('{"level":30}\n', 0, 1), /without time or text/);
  t.throws(() => runTimeline(BOOTED.replace('"steps"', '"x"'), 1000, 5400), /how long the steps took/);
});

t.test('the number of pairs', async (t) => {
  t.equal(pairsOr(20, {}), 20);
  t.equal(pairsOr(20, { YAVM_BENCH_PAIRS: '2' }), 2);
  t.throws(() => pairsOr(20, { YAVM_BENCH_PAIRS: 'all' }), /not a number of pairs/);
});
