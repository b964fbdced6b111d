import t from 'tap';
import { FlexUInts } from '../../host/gsb/types.ts';
import {
  allEvents,
  brief,
  deploy,
  type EventItem,
  never,
  run,
  start,
  startActivity,
} from '../lib/activity.ts';
import { FakeClock } from '../lib/fake-clock.ts';
import { bytes } from '../lib/scale.ts';

const STREAM = { stream: {} };
const MIB = 1024 * 1024;

t.test('the first subscriber gets a batch from its start, also when it is over', async (t) => {
  const clock = new FakeClock();
  const { activity, exec, results } = await startActivity(t, { clock });
  exec('b1', [
    deploy,
    start,
    run('print', ['out', 'err'], STREAM),
    run('echo', ['hidden']),
    run('exit', [3]),
  ]);
  await results('b1');
  const events = await allEvents(activity, 'b1');
  t.strictSame(brief(events), [
    '0 started',
    '0 finished 0',
    '1 started',
    '1 finished 0',
    '2 started',
    '2 stdout out',
    '2 stderr err',
    '2 finished 0',
    '3 started',
    '3 finished 0',
    '4 started',
    '4 finished 3',
  ]);
  t.strictSame(events[0], {
    batch_id: 'b1',
    index: 0,
    timestamp: '2026-11-23T13:07:13.820',
    kind: { started: { command: { deploy: {} } } },
  });
  t.strictSame(events.at(-1)?.kind, {
    finished: { return_code: 3, message: 'ExeScript command exited with code 3' },
  });
  t.strictSame(await allEvents(activity, 'b1'), [], 'a second one has missed it all');
});

t.test('several subscribers at once: later ones live, each to the end', async (t) => {
  const { activity, exec, runtime } = await startActivity(t);
  let go = () => {};
  runtime.programs.set('wait', async (_command, { stdout }) => {
    await stdout?.(Buffer.from('before\n'));
    await new Promise<void>((resolve) => (go = resolve));
    await stdout?.(Buffer.from('after\n'));
    return { exitCode: 0 };
  });
  exec('b1', [deploy, start, run('wait', [], STREAM), run('echo', ['x'], STREAM)]);
  const first = allEvents(activity, 'b1');
  while (!runtime.calls.includes('run wait')) await turn();
  await turn();
  const later = [allEvents(activity, 'b1'), allEvents(activity, 'b1')];
  go();
  const live = ['2 stdout after\n', '2 finished 0', '3 started', '3 stdout x\n', '3 finished 0'];
  t.strictSame(brief(await first).slice(4), ['2 started', '2 stdout before\n', ...live]);
  for (const events of later) t.strictSame(brief(await events), live);
});

t.test('characters that are cut in two by chunks stay whole; what is none is marked', async (t) => {
  const { activity, exec, runtime } = await startActivity(t);
  runtime.programs.set('cut', async (_command, { stdout }) => {
    for (const piece of [[0x74, 0x77, 0xc3], [0xb6, 0x0a], [0xff], [0xe2, 0x82]]) {
      await stdout?.(Buffer.from(piece));
      // The subscriber takes each piece before the next comes.
      for (let turns = 0; turns < 5; turns++) await turn();
    }
    return { exitCode: 0 };
  });
  exec('b1', [deploy, start, run('cut', [], STREAM), run('print', ['\ufeffbom'], STREAM)]);
  const events = await allEvents(activity, 'b1');
  t.strictSame(
    events.flatMap(({ kind }) => (kind.stdout === undefined ? [] : [kind.stdout])),
    ['tw', 'ö\n', '\ufffd', '\ufffd', '\ufeffbom'],
  );
});

t.test('binary comes as vectors of unsigned integers, limits count bytes', async (t) => {
  const { activity, exec, runtime } = await startActivity(t);
  runtime.programs.set('raw', async (_command, { stdout }) => {
    await stdout?.(Buffer.from([104, 105, 255, 0, 10]));
    return { exitCode: 0 };
  });
  exec('b1', [
    deploy,
    start,
    run('raw', [], { stream: { format: 'bin' } }),
    run('print', ['0123456789abcdef'], { stream: { limit: 4 } }),
    run('print', ['0123456789abcdef'], { stream: { limit: 0 } }),
  ]);
  const events = await allEvents(activity, 'b1');
  const output = events.filter(({ kind }) => kind.stdout !== undefined);
  t.equal(output.length, 2);
  const value = output[0]?.kind.stdout;
  t.ok(value instanceof FlexUInts);
  t.strictSame([...(value as FlexUInts).bytes], [104, 105, 255, 0, 10]);
  t.equal(output[1]?.kind.stdout, '0123');
});

t.test('progress comes as often as asked for, and the last one always', async (t) => {
  const clock = new FakeClock();
  const { activity, exec, runtime } = await startActivity(t, { clock });
  runtime.onDeploy = async (_command, progress) => {
    for (let done = 0; done <= 100; done++) {
      progress({ done, total: 100, unit: 'Bytes' });
      clock.pass(10);
    }
  };
  exec('b1', [{ deploy: { progress: { updateInterval: '300ms' } } }]);
  const events = await allEvents(activity, 'b1');
  t.strictSame(brief(events), [
    '0 started',
    ...[0, 30, 60, 90, 100].map(
      (done) => `0 progress {"step":[0,1],"message":null,"progress":[${done},100],"unit":"Bytes"}`,
    ),
    '0 finished 0',
  ]);
  exec('b2', [{ terminate: {} }, deploy]);
  t.strictSame(brief(await allEvents(activity, 'b2')), [
    '0 started',
    '0 finished 0',
    '1 started',
    '1 finished 0',
  ]);
});

t.test(
  'thousands of reports and of changes between the streams: nothing is lost, the log stays small',
  async (t) => {
    const { activity, exec, results, runtime } = await startActivity(t);
    runtime.onTransfer = async (_command, progress) => {
      for (let done = 0; done <= 5000; done++) progress({ done, total: null });
    };
    runtime.programs.set('mixed', async (_command, { stdout, stderr }) => {
      for (let line = 0; line < 5000; line++) {
        await stdout?.(Buffer.from(`o${line}\n`));
        await stderr?.(Buffer.from(`e${line}\n`));
      }
      return { exitCode: 0 };
    });
    const transfer = {
      transfer: { from: 'container:/a', to: 'container:/b', progress: { updateInterval: '0s' } },
    };
    exec('b1', [deploy, start, transfer, run('mixed', [], STREAM)]);
    await results('b1');
    const events = await allEvents(activity, 'b1');
    const text = (stream: string) => events.map(({ kind }) => kind[stream] ?? '').join('');
    const lines = (letter: string) =>
      Array.from({ length: 5000 }, (_, line) => `${letter}${line}\n`).join('');
    t.equal(text('stdout'), lines('o'));
    t.equal(text('stderr'), lines('e'));
    t.ok(events.length < 3000);
    const reports = events.filter(({ kind }) => kind.progress !== undefined);
    t.match(reports.at(-1)?.kind.progress, { progress: [5000, null] });
  },
);

t.test('a large output through a stream is complete, while memory stays bounded', async (t) => {
  const { activity, exec } = await startActivity(t);
  const size = bytes(1024 * MIB);
  exec('b1', [deploy, start, run('bytes', [size, 'stdout', 'y'], STREAM)]);
  let length = 0;
  let rss = 0;
  const before = process.memoryUsage().rss;
  for await (const event of activity.stream('b1', never)) {
    const { kind } = event as unknown as EventItem;
    if (typeof kind.stdout !== 'string') continue;
    length += kind.stdout.length;
    rss = Math.max(rss, process.memoryUsage.rss());
  }
  t.equal(length, size);
  t.ok(rss - before < 150 * MIB, `${Math.round((rss - before) / MIB)} MiB more`);
});

t.test('a subscriber that takes nothing for a minute is given up, and holds nobody up', async (t) => {
  const clock = new FakeClock();
  const { activity, exec } = await startActivity(t, {
    clock,
    limits: { spool: 4 * MIB, captured: MIB },
  });
  exec('b1', [deploy, start, run('bytes', [16 * MIB], STREAM), run('echo', ['next'], STREAM)]);
  const slow = activity.stream('b1', never)[Symbol.asyncIterator]();
  await slow.next();
  const done = activity.results('b1', 1000, null, never);
  // The disk is full of what the subscriber has still to read: the command waits for it, and not for ever.
  let over = false;
  void done.then(() => (over = true));
  for (let round = 0; round < 200; round++) await turn();
  t.notOk(over, 'the command is held back');
  clock.pass(60_000);
  t.match(await done, [{}, {}, {}, { stdout: 'next\n' }]);
  await t.rejects(slow.next(), { code: 'YAVM_E_STREAM_STALLED' });
  t.strictSame((await slow.next().catch(({ code }) => code)) as unknown, 'YAVM_E_STREAM_STALLED');
});

t.test('one that never asks for its first item too; one that asks in time is not', async (t) => {
  const clock = new FakeClock();
  const { activity, exec, runtime } = await startActivity(t, { clock });
  exec('b1', [deploy, start, run('hang', ['x'], STREAM)]);
  const idle = activity.stream('b1', never)[Symbol.asyncIterator]();
  const good = activity.stream('b1', never)[Symbol.asyncIterator]();
  while (!runtime.calls.includes('run hang x')) await turn();
  clock.pass(40_000);
  await good.next();
  clock.pass(40_000);
  await t.rejects(idle.next(), { code: 'YAVM_E_STREAM_STALLED' });
  t.equal((await good.next()).done, false);
});

t.test('what was dropped before anybody subscribed is said', async (t) => {
  const { activity, exec, results } = await startActivity(t, { limits: { spool: 40 * MIB, captured: MIB } });
  exec('b1', [deploy, start, run('bytes', [100 * MIB], STREAM)]);
  t.match((await results('b1'))[2]?.message, `stdout: ${MIB} of ${100 * MIB} bytes`);
  const events = await allEvents(activity, 'b1');
  const length = events.reduce(
    (sum, { kind }) => sum + ((kind.stdout as string | undefined)?.length ?? 0),
    0,
  );
  t.ok(length >= 20 * MIB && length <= 45 * MIB, `${length}`);
  t.match(events.at(-1)?.kind.finished, {
    return_code: 0,
    message: `stdout: ${length} of ${100 * MIB} bytes (YAVM_E_OUTPUT_DROPPED)`,
  });
});

t.test('a signal ends the stream, before, between and while waiting', async (t) => {
  const { activity, exec, runtime } = await startActivity(t);
  exec('b1', [deploy, start, run('hang', ['x'], STREAM)]);
  const ended = (signal: AbortSignal) => activity.stream('b1', signal)[Symbol.asyncIterator]();
  t.equal((await ended(AbortSignal.abort()).next()).done, true);
  const abort = new AbortController();
  const iterator = ended(abort.signal);
  while (!runtime.calls.includes('run hang x')) await turn();
  for (let event = 0; event < 6; event++) t.equal((await iterator.next()).done, false);
  const pending = iterator.next();
  await turn();
  abort.abort();
  t.equal((await pending).done, true);
  t.equal((await iterator.next()).done, true);
  const left = ended(never);
  await left.return?.();
  t.equal((await left.next()).done, true);
});

/** Lets everything that can happen happen once. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
