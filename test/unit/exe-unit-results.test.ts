import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import type { OutputSink, RunEnd } from '../../host/exe-unit/types.ts';
import { decodeBody, type Flex, type Packet, PacketDecoder } from '../../host/gsb/index.ts';
import { deploy, never, type ResultItem, run, start, startActivity } from '../lib/activity.ts';
import { FakeClock } from '../lib/fake-clock.ts';
import type { FakeRuntime } from '../lib/fake-runtime.ts';
import { meaning } from '../lib/flex-meaning.ts';
import { noRecordings, readRecording } from '../lib/gsb-recordings.ts';

const MIB = 1024 * 1024;

t.test('waiting for a command, for the last one, and not at all', async (t) => {
  const clock = new FakeClock();
  const { activity, exec, runtime } = await startActivity(t, { clock });
  const gates = new Map<string, () => void>();
  runtime.programs.set('gate', async ({ args: [name = ''] }, { stdout }) => {
    await new Promise<void>((resolve) => gates.set(name, resolve));
    await stdout?.(Buffer.from(name));
    return { exitCode: 0 };
  });
  const open = async (name: string) => {
    while (!gates.has(name)) await turn();
    gates.get(name)?.();
  };
  exec('b1', [deploy, start, run('gate', ['a']), run('gate', ['b'])]);
  const results = (timeout: number | null, index: number | null) =>
    activity.results('b1', timeout, index, never) as Promise<unknown> as Promise<ResultItem[]>;
  const second = results(100, 2);
  const last = results(100, null);
  await open('a');
  const upToSecond = await second;
  t.strictSame(
    upToSecond.map(({ index, stdout, isBatchFinished }) => [index, stdout, isBatchFinished]),
    [
      [0, null, false],
      [1, null, false],
      [2, 'a', true],
    ],
    "with an index the output is that command's alone, and the batch seems finished",
  );
  t.equal((await results(null, null)).length, 3, 'no timeout: at once');
  await t.rejects(results(null, 3), { kind: 'timeout', message: 'timeout' });
  const impatient = results(5, null);
  const indexed = results(5, 3);
  clock.pass(5000);
  const refused = t.rejects(indexed, { kind: 'timeout', message: 'timeout' });
  t.equal((await impatient).length, 3, 'the time is over: what there is');
  await refused;
  await open('b');
  t.strictSame(
    (await last).map(({ stdout }) => stdout),
    [null, null, 'a', 'b'],
  );
  const beyond = results(5, 99);
  clock.pass(5000);
  await t.rejects(beyond, { kind: 'timeout', message: 'timeout' }, 'an index that no script has');
  t.equal(clock.pending, 0, 'no timer is left');
});

t.test('a failure wakes whoever waits for it or for what comes after it', async (t) => {
  const { activity, exec } = await startActivity(t, { clock: new FakeClock() });
  exec('b1', [deploy, start, run('exit', [7]), run('echo', ['never'])]);
  const waits = [null, 2, 3].map((index) => activity.results('b1', 1e9, index, never));
  for (const wait of waits) {
    const items = (await wait) as unknown as ResultItem[];
    t.equal(items.length, 3);
    t.match(items[2], { result: 'Error', isBatchFinished: true });
  }
});

t.test('timeouts that are no time', async (t) => {
  const clock = new FakeClock();
  const { activity, exec, runtime } = await startActivity(t, { clock });
  exec('b1', [deploy, start, run('hang')]);
  while (!runtime.calls.includes('run hang')) await turn();
  for (const timeout of [Number.NaN, -1, 0, Number.NEGATIVE_INFINITY]) {
    t.equal(((await activity.results('b1', timeout, null, never)) as unknown[]).length, 2, `${timeout}`);
  }
  for (const timeout of [Number.POSITIVE_INFINITY, 1e300, 3.4e38]) {
    const abort = new AbortController();
    const waiting = activity.results('b1', timeout, null, abort.signal);
    await turn();
    abort.abort(new Error('enough'));
    await t.rejects(waiting, { message: 'enough' }, `${timeout}`);
  }
  t.equal(clock.pending, 0);
});

t.test('outputs beyond the cap are cut, and it is said of how many bytes', async (t) => {
  const { exec, results } = await startActivity(t, { limits: { captured: 1000 } });
  exec('b1', [
    deploy,
    start,
    run('bytes', [5000]),
    run('bytes', [5000], { stream: {} }),
    run('bytes', [5000], { atEnd: { tail: 2000 } }),
    run('bytes', [5000], { atEnd: { headTail: 2000 } }),
    run('bytes', [5000], { atEnd: { head: 900 } }),
    run('bytes', [1000]),
    run('print', ['ö'.repeat(600)], { atEnd: {} }),
    run('print', ['xö'.repeat(600)], { stream: {} }),
  ]);
  const items = (await results('b1')).slice(2);
  t.strictSame(
    items.map(({ stdout, message, result }) => [(stdout as string).length, message, result]),
    [
      [1000, 'stdout: 1000 of 5000 bytes', 'Ok'],
      [1000, 'stdout: 1000 of 5000 bytes', 'Ok'],
      [1000, 'stdout: 1000 of 2000 bytes', 'Ok'],
      [1000, 'stdout: 1000 of 2000 bytes', 'Ok'],
      [900, null, 'Ok'],
      [1000, null, 'Ok'],
      [500, 'stdout: 1000 of 1200 bytes', 'Ok'],
      [667, 'stdout: 1000 of 1800 bytes', 'Ok'],
    ],
  );
  t.match(items[6]?.stdout, /^ö+$/);
  t.match(items[7]?.stdout, /^[xö]+$/, 'a cut in a character does not turn the whole into Latin-1');
});

t.test('all outputs of one answer have a limit together', async (t) => {
  const { exec, results } = await startActivity(t, { limits: { answer: 1500 } });
  exec('b1', [
    deploy,
    start,
    run('bytes', [1000]),
    run('bytes', [1000]),
    run('bytes', [1000, 'stdout', 'y'], { atEnd: { format: 'bin' } }),
  ]);
  const items = (await results('b1')).slice(2);
  t.strictSame(
    items.map(({ message }) => message),
    [null, 'stdout: 500 of 1000 bytes', 'stdout: 0 of 1000 bytes'],
  );
  // Alone it fits better: its elements are as wide as its length needs.
  const alone = (await results('b1', 4)).at(-1);
  t.equal(alone?.message, 'stdout: 750 of 1000 bytes');
});

t.test('100 MB of output through results: cut at the cap, in little memory', async (t) => {
  const { exec, results } = await startActivity(t);
  exec('b1', [deploy, start, run('bytes', [100e6]), run('bytes', [100e6], { stream: {} })]);
  const before = process.memoryUsage().rss;
  const all = await results('b1', 3);
  t.equal(String(all[3]?.stdout).length, 32 * MIB);
  t.equal(all[3]?.message, 'stdout: 33554432 of 100000000 bytes');
  t.ok(process.memoryUsage().rss - before < 250 * MIB);
});

t.test('output that did not arrive is said', async (t) => {
  const { exec, results, runtime } = await startActivity(t);
  runtime.programs.set('broken', async () => ({ exitCode: 0, complete: false }));
  runtime.programs.set('oom', async () => ({ exitCode: 137, outOfMemory: true }));
  exec('b1', [deploy, start, run('broken'), run('oom')]);
  t.strictSame(
    (await results('b1')).slice(2).map(({ message }) => message),
    [
      'the output is not complete (YAVM_E_OUTPUT_INCOMPLETE)',
      'ExeScript command exited with code 137: out of memory (YAVM_E_OUT_OF_MEMORY)',
    ],
  );
});

// ---------------------------------------------------------------- recordings

interface Scenario {
  name: string;
  /** Answers that differ on purpose, by the number of the call among GetExecBatchResults, and why. */
  exceptions?: Record<number, string>;
}

const SCENARIOS: Scenario[] = [
  { name: 'output-formats' },
  { name: 'stream' },
  {
    name: 'batch-process-mode',
    exceptions: {
      3: 'waiting for a command after a failed one tells of the failure, not of a time-out (11.2, 3)',
      4: 'the same with an index beyond the script',
    },
  },
  { name: 'errors', exceptions: { 14: 'a negative timeout does not kill the supervisor (11.2, 25)' } },
];

for (const { name, exceptions = {} } of SCENARIOS) {
  t.test(`${name}: the results that upstream gave`, { skip: noRecordings }, async (t) => {
    const fixture = await startActivity(t);
    useShell(fixture.runtime);
    const { activity } = fixture;
    let call = 0;
    for (const { request, reply } of calls(name)) {
      const { batchId, exeScript, timeout, commandIndex } = request;
      if (exeScript !== undefined) {
        if (request.activityId === 'wrong') continue;
        const answer = answerOf(async () => {
          fixture.exec(batchId, exeScript);
          return batchId;
        });
        t.strictSame(await answer, reply, `Exec ${batchId}`);
      } else {
        if (request.activityId === 'wrong') continue;
        const why = exceptions[call++];
        const wait = timeout === null || timeout < 1 ? timeout : 20;
        const answer = answerOf(async () => activity.results(batchId, wait, commandIndex, never));
        const got = comparable(await answer);
        if (why === undefined) t.strictSame(got, comparable(reply), `results ${call - 1} of ${batchId}`);
        else t.notSame(got, comparable(reply), why);
      }
    }
    t.ok(call > 0);
  });
}

interface Call {
  request: {
    activityId: string;
    batchId: string;
    exeScript?: Flex;
    timeout: number | null;
    commandIndex: number | null;
  };
  reply: unknown;
}

/** Exec and GetExecBatchResults with their answers, in the order of the requests. */
function calls(name: string): Call[] {
  const found: (Call & { id: string })[] = [];
  for (const packet of packets(name)) {
    if (packet.kind === 'callRequest' && /\/(Exec|GetExecBatchResults)$/.test(packet.address)) {
      const request = decodeBody(packet.data) as unknown as Call['request'];
      found.push({ id: packet.requestId, request, reply: undefined });
    } else if (packet.kind === 'callReply') {
      const call = found.find(({ id }) => id === packet.requestId);
      if (!call) continue;
      call.reply = packet.code === 0 ? meaning(decodeBody(packet.data)) : packet.code;
    }
  }
  return found;
}

function packets(name: string): Packet[] {
  return readRecording(name).flatMap(({ frame }) => {
    if (frame === undefined) return [];
    return [...new PacketDecoder().push(frame)];
  });
}

async function answerOf(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return { Ok: meaning((await call()) as Flex) };
  } catch (error) {
    const { kind, message } = error as { kind: string; message: string };
    return { Err: kind === 'timeout' ? kind : { [kind]: message } };
  }
}

/** Without what cannot be the same: times, what a deploy printed, and texts of this runtime. */
function comparable(answer: unknown): unknown {
  const { Ok: items } = answer as { Ok?: ResultItem[] };
  if (!Array.isArray(items)) return answer;
  return items.map(({ eventDate, stdout, message, ...rest }) => ({
    ...rest,
    stdout: typeof stdout === 'string' && /^\{"startMode"|^started\n$/.test(stdout) ? null : stdout,
    message: typeof message === 'string' ? message.replace(/ \(YAVM_E_\w+\)$/, '') : message,
  }));
}

/** Commands run on this host, as they did for the recordings. */
function useShell(runtime: FakeRuntime): void {
  for (const program of ['/bin/sh', '/bin/echo', '/bin/true', '/no/such/bin']) {
    runtime.programs.set(program, ({ args }, { stdout, stderr }, signal) =>
      shell(program, args, stdout, stderr, signal),
    );
  }
  runtime.onTransfer = async ({ from, to }) => {
    const scheme = /^(\w+):/.exec(from)?.[1];
    throw new Error(
      scheme === 'ftp'
        ? 'Unsupported scheme: ftp'
        : `IO error: path not found in container: ${to.replace('container:', '')}`,
    );
  };
}

async function shell(
  program: string,
  args: string[],
  stdout: OutputSink | null,
  stderr: OutputSink | null,
  signal: AbortSignal,
): Promise<RunEnd> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
  const pump = async (from: AsyncIterable<Buffer>, to: OutputSink | null) => {
    for await (const bytes of from) await to?.(bytes);
  };
  const pumped = Promise.all([pump(child.stdout, stdout), pump(child.stderr, stderr)]);
  try {
    const [code, killedBy] = (await once(child, 'close')) as [number | null, string | null];
    await pumped;
    return { exitCode: code ?? (killedBy === 'SIGKILL' ? 137 : 1) };
  } catch {
    await pumped.catch(() => {});
    return { exitCode: 1 };
  }
}

/** Lets everything that can happen happen once. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
