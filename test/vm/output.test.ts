/** A command's output is complete, byte for byte, and all here before its end is told: whatever its size. */
import { Writable } from 'node:stream';
import t, { type Test } from 'tap';
import { STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import { sleep } from '../../host/lib/deadline.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { Random } from '../lib/random.ts';
import { eventually } from '../lib/running.ts';
import { bytes, count, soak } from '../lib/scale.ts';
import { Collector, commandSpec, type Outcome, run, sha256, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

type Stream = 'stdout' | 'stderr';

/** Of both streams together; a multiple of 10. */
const LARGEST = bytes(1e8) - (bytes(1e8) % 10);
/** Bytes on the two streams of one command: each size is on either of them once. `runs` as in a soak. */
const CASES = [
  { stdout: 0, stderr: 4097, runs: 20 },
  { stdout: 1, stderr: 65536, runs: 20 },
  { stdout: 4095, stderr: 1, runs: 20 },
  { stdout: 4096, stderr: 0, runs: 20 },
  { stdout: 4097, stderr: 4095, runs: 20 },
  { stdout: 65536, stderr: 1e6, runs: 20 },
  { stdout: 1e6, stderr: 4096, runs: 20 },
  { stdout: 0.6 * LARGEST, stderr: 0.4 * LARGEST, runs: 3 },
];
/** Ways to write a file to a pipe, by the most bytes that each gets through in a short time. */
const WRITERS = [
  { command: 'dd bs=1', most: 4097 },
  { command: 'dd bs=1000', most: 1e6 },
  { command: 'dd bs=64k', most: Number.POSITIVE_INFINITY },
  // By sendfile(2): whole pages of the file's cache become the pipe's.
  { command: 'cat', most: Number.POSITIVE_INFINITY },
];
const SEEDS: Record<Stream, number> = { stdout: 1, stderr: 2 };
const PAUSE = 2000;

/** What is written on a stream: the first bytes of a sequence that does not repeat. */
const content: Record<Stream, Uint8Array> = {
  stdout: new Random(SEEDS.stdout).bytes(LARGEST),
  stderr: new Random(SEEDS.stderr).bytes(LARGEST),
};
const hashes = new Map<string, string>();

function expected(stream: Stream, size: number): { bytes: number; sha256: string } {
  const key = `${stream} ${size}`;
  const hash = hashes.get(key) ?? sha256(content[stream].subarray(0, size));
  hashes.set(key, hash);
  return { bytes: size, sha256: hash };
}

function path(stream: Stream, size: number): string {
  return `/data/${stream}-${size}`;
}

/** Puts the files into the VM that commands write out. */
async function prepare(vm: Vm): Promise<void> {
  for (const stream of ['stdout', 'stderr'] as const) {
    for (const size of new Set(CASES.map((each) => each[stream])))
      await vm.writeFiles(path(stream, size), [content[stream].subarray(0, size)]);
  }
}

/** Writes both streams at the same time. */
function script(random: Random, stdout: number, stderr: number): string {
  const writer = (size: number) => random.pick(WRITERS.filter(({ most }) => size <= most)).command;
  const [out, error] = [
    `${writer(stdout)} <${path('stdout', stdout)}`,
    `${writer(stderr)} <${path('stderr', stderr)}`,
  ];
  // dd's own report must not be part of it.
  return `${out} 2>/dev/null & ${error} >&2 2>/dev/null & wait`;
}

function figures({ result, stdout, stderr }: Outcome) {
  const { exitCode, complete, totals } = result;
  const of = ({ bytes, sha256 }: typeof stdout) => ({ bytes, sha256 });
  return { exitCode, complete, totals, stdout: of(stdout), stderr: of(stderr) };
}

for (const cpus of [1, 2, 4]) {
  t.test(`with ${cpus} CPU`, async (t) => {
    const vm = await startTestVm(t, { cpus, root: { disk: 512 * 1024 * 1024 } });
    await prepare(vm);
    await t.test('output', (t) => sizes(t, vm, new Random(cpus)));
    if (cpus !== 2) return;
    await t.test('a reader', (t) => readers(t, vm));
    await t.test('a background child that keeps the pipe', (t) => background(t, vm));
  });
}

async function sizes(t: Test, vm: Vm, random: Random): Promise<void> {
  for (const { stdout, stderr, runs } of CASES) {
    t.test(`${stdout} bytes on stdout, ${stderr} on stderr`, async (t) => {
      for (let round = 0; round < count(runs); round++) {
        const line = script(random, stdout, stderr);
        // What is collected is looked at the moment that the result is there.
        t.strictSame(
          figures(await run(vm, ['sh', '-c', line])),
          {
            exitCode: 0,
            complete: true,
            totals: { stdout, stderr },
            stdout: expected('stdout', stdout),
            stderr: expected('stderr', stderr),
          },
          line,
        );
      }
    });
  }

  t.test('commands that write at the same time each keep their own', async (t) => {
    const outcomes = await Promise.all(
      CASES.filter(({ stdout, stderr }) => stdout + stderr < 2e6).map(async ({ stdout, stderr }) => {
        const outcome = await run(vm, ['sh', '-c', script(random, stdout, stderr)]);
        return { outcome, stdout, stderr };
      }),
    );
    for (const { outcome, stdout, stderr } of outcomes) {
      t.match(outcome, {
        result: { complete: true, totals: { stdout, stderr } },
        stdout: expected('stdout', stdout),
        stderr: expected('stderr', stderr),
      });
    }
  });

  t.test('stderr merged into stdout comes in the order in which it was written', async (t) => {
    const lines = 'for i in 1 2 3 4 5 6 7 8 9; do echo "out $i"; echo "error $i" >&2; done';
    const { result, stdout } = await run(vm, { argv: ['sh', '-c', lines], stderr: 'merge' });
    const numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9];
    t.equal(stdout.text, numbers.map((number) => `out ${number}\nerror ${number}\n`).join(''));
    t.strictSame(result.totals, { stdout: stdout.bytes });
  });
}

async function readers(t: Test, vm: Vm): Promise<void> {
  const size = 4_000_000;
  const file = '/data/stdout';
  await vm.writeFiles(file, [content.stdout.subarray(0, size)]);

  t.test('that stops for 2 s in the middle loses nothing, and holds only its own command up', async (t) => {
    const collector = new Collector();
    let paused: Promise<void> | null = null;
    let atPause = -1;
    const command = await vm.run(commandSpec(['cat', file]), {
      stdout: (piece) => {
        collector.sink(piece);
        if (paused || collector.bytes < size / 2) return;
        paused = sleep(PAUSE);
        atPause = collector.bytes;
        return paused;
      },
    });
    while (!paused) await sleep(20);
    t.equal(await shell(vm, 'echo another'), 'another\n');
    await sleep(PAUSE / 2);
    t.equal(collector.bytes, atPause, 'no more is handed over meanwhile');
    t.ok((command.stdout?.received ?? size) < size, 'and the guest waits');
    const { complete, totals } = await command.result;
    t.strictSame({ complete, totals }, { complete: true, totals: { stdout: size, stderr: 0 } });
    t.match(collector.collected(), expected('stdout', size));
  });

  t.test('that stops while the command ends gets all of it before the result is there', async (t) => {
    const small = 100_000;
    const collector = new Collector();
    let resumed = false;
    const command = await vm.run(commandSpec(['dd', `if=${file}`, `bs=${small}`, 'count=1', 'status=none']), {
      stdout: async (piece) => {
        if (collector.bytes === 0) await sleep(PAUSE);
        resumed = true;
        collector.sink(piece);
      },
    });
    const { complete, totals } = await command.result;
    t.ok(resumed);
    t.strictSame({ complete, totals }, { complete: true, totals: { stdout: small, stderr: 0 } });
    t.match(collector.collected(), expected('stdout', small));
  });

  t.test('that is a slow Node stream', async (t) => {
    const collector = new Collector();
    const command = await vm.run(commandSpec(['cat', file]));
    const slow = new Writable({
      highWaterMark: 1,
      write(chunk: Buffer, _encoding, done) {
        collector.sink(chunk);
        setTimeout(done, 5);
      },
    });
    const finished = new Promise((resolve) => slow.once('finish', resolve));
    command.stdout?.readable().pipe(slow);
    command.stderr?.discard();
    t.match(await command.result, { complete: true, totals: { stdout: size } });
    await finished;
    t.match(collector.collected(), expected('stdout', size));
  });

  t.test('that fails holds up neither the VM nor, after discard(), its command', async (t) => {
    const command = await vm.run(commandSpec(['cat', file]), {
      stdout: () => {
        throw new Error('no more of it');
      },
    });
    t.equal(await shell(vm, 'echo another'), 'another\n');
    command.stdout?.discard();
    t.match(await command.result, { exitCode: 0, totals: { stdout: size } });
  });
}

async function background(t: Test, vm: Vm): Promise<void> {
  await shell(vm, 'mkfifo /gate');
  const later = new Random(3).bytes(soak ? 5_000_000 : 500_000);
  await vm.writeFiles('/later', [later]);

  for (let round = 0; round < count(20); round++) {
    const script = 'echo now; (read line </gate; cat /later; echo last >&2) & exit 3';
    const command = await vm.run(commandSpec(['sh', '-c', script]));
    const stdout = new Collector();
    const stderr = new Collector();
    const ended = Promise.all([command.stdout?.consume(stdout.sink), command.stderr?.consume(stderr.sink)]);
    let open = true;
    void ended.then(() => {
      open = false;
    });
    const { exitCode, complete, totals } = await command.result;
    t.strictSame(
      { exitCode, complete, totals },
      { exitCode: 3, complete: true, totals: { stdout: 4, stderr: 0 } },
    );
    t.strictSame([stdout.bytes, open], [4, true], 'the exit does not wait for it, and its streams go on');
    await shell(vm, 'echo go >/gate');
    await ended;
    const all = Buffer.concat([Buffer.from('now\n'), later]);
    t.match(stdout.collected(), { bytes: all.length, sha256: sha256(all) }, 'what it writes later arrives');
    t.match(stderr.collected(), { text: 'last\n' });
  }

  t.test('counts for what is in its pipe at that moment, and for no more', async (t) => {
    const long = new Random(4).bytes(4 * STREAM_WINDOW);
    await vm.writeFiles('/long', [long]);
    const stdout = new Collector();
    let resume = () => {};
    const paused = new Promise<void>((resolve) => {
      resume = resolve;
    });
    const command = await vm.run(
      commandSpec({ argv: ['sh', '-c', 'cat /long & read line; exit 5'], stdin: true }),
    );
    const ended = command.stdout?.consume((piece) => {
      stdout.sink(piece);
      return paused;
    });
    command.stderr?.discard();
    const received = () => command.stdout?.received ?? 0;
    await eventually('the credit is used up', () => received() >= STREAM_WINDOW / 2);
    await sleep(500);
    const before = received();
    t.ok(before <= STREAM_WINDOW, 'what the guest may send');
    command.stdin?.end('\n');
    let over = false;
    void command.result.then(() => {
      over = true;
    });
    await sleep(500);
    t.notOk(over, 'the pipe still holds what was written before the end');
    resume();
    const { exitCode, complete, totals } = await command.result;
    t.strictSame({ exitCode, complete }, { exitCode: 5, complete: true });
    const total = totals.stdout ?? 0;
    t.ok(total > before && total < long.length, `${total} bytes were announced`);
    t.ok(stdout.bytes >= total, 'and are here');
    await ended;
    t.match(stdout.collected(), { bytes: long.length, sha256: sha256(long) }, 'the rest comes later');
  });
}
