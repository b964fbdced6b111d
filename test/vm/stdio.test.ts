/** What goes into commands: stdin, terminals; and that one stream never holds up another. */
import { once } from 'node:events';
import { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import { sleep } from '../../host/lib/deadline.ts';
import type { InputStream, Vm } from '../../host/runtime/index.ts';
import { Random } from '../lib/random.ts';
import { eventually, type Running, start } from '../lib/running.ts';
import { bytes, count } from '../lib/scale.ts';
import { Collector, commandSpec, run, sha256, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

const SIGKILL = 9;
const CTRL_C = '\x03';
const CTRL_D = '\x04';
const CTRL_BACKSLASH = '\x1c';
const LARGEST = bytes(64 * 1024 * 1024);
const content = new Random(5).bytes(LARGEST);

/** Pieces of odd sizes. */
function* pieces(of: Uint8Array, random: Random): Generator<Uint8Array> {
  for (let at = 0; at < of.length; ) {
    const size = random.pick([1, 9, 4095, 4096, 65536, 100_001, 1_000_000]);
    yield of.subarray(at, at + size);
    at += size;
  }
}

/** A shell script with a stdin. */
async function startScript(vm: Vm, script: string): Promise<Running & { stdin: InputStream }> {
  const running = await start(vm, { argv: ['sh', '-c', script], stdin: true });
  return { ...running, stdin: running.command.stdin as InputStream };
}

/** A shell script on a terminal of 24 × 80. */
async function startOnTerminal(vm: Vm, script: string): Promise<Running & { stdin: InputStream }> {
  const tty = { rows: 24, columns: 80 };
  const running = await start(vm, { argv: ['sh', '-c', script], stdin: true, tty });
  return { ...running, stdin: running.command.stdin as InputStream };
}

t.test('with 1 CPU', async (t) => {
  const vm = await startTestVm(t);
  await t.test('stdin', (t) => throughStdin(t, vm));
  await t.test('the end of stdin', (t) => endOfStdin(t, vm));
  await t.test('a terminal', (t) => terminal(t, vm));
});

t.test('with 2 CPU', async (t) => {
  const vm = await startTestVm(t, { cpus: 2 });
  await t.test('stdin', (t) => throughStdin(t, vm));
  await t.test('a stream that stands still', (t) => standingStill(t, vm));
});

async function throughStdin(t: Test, vm: Vm): Promise<void> {
  t.test('all of it reaches the command, and comes back', async (t) => {
    const random = new Random(6);
    for (const size of [0, 1, 4095, 4096, 4097, 65536, 1_000_000, LARGEST]) {
      const input = content.subarray(0, size);
      const source = Readable.from(pieces(input, random));
      const { result, stdout } = await run(vm, ['cat'], { input: source });
      t.match(result, { exitCode: 0, complete: true, totals: { stdout: size } });
      t.match(stdout, { bytes: size, sha256: sha256(input) });
    }
  });

  t.test('many commands each get their own', async (t) => {
    const inputs = Array.from({ length: 10 }, (_, number) => content.subarray(number, 100_000 * number));
    const outcomes = await Promise.all(inputs.map((input) => run(vm, ['cat'], { input })));
    t.strictSame(
      outcomes.map(({ stdout }) => stdout.sha256),
      inputs.map(sha256),
    );
  });
}

async function endOfStdin(t: Test, vm: Vm): Promise<void> {
  t.test('is what a command reads without one', async (t) => {
    const { result, stdout } = await run(vm, ['sh', '-c', 'cat; readlink /proc/self/fd/0']);
    t.match(result, { exitCode: 0 });
    t.equal(stdout.text, '/dev/null\n');
  });

  t.test('comes when the host ends it, and not before', async (t) => {
    const { command, stdin, stdout } = await startScript(
      vm,
      'while read line; do echo "got $line"; done; echo end',
    );
    stdin.write('one\n');
    await eventually('the line was read', () => stdout() === 'got one\n');
    stdin.write('two\nthr');
    await eventually('the next was', () => stdout() === 'got one\ngot two\n');
    stdin.end('ee\n');
    t.match(await command.result, { exitCode: 0 });
    t.equal(stdout(), 'got one\ngot two\ngot three\nend\n');
  });

  t.test('comes at once when the host closes it, and what is written then leads nowhere', async (t) => {
    const { command, stdin, stdout } = await startScript(vm, 'cat; echo end');
    stdin.write('before\n');
    await eventually('it arrives', () => stdout() === 'before\n');
    await command.closeInput();
    stdin.end('after\n');
    t.match(await command.result, { exitCode: 0 });
    t.equal(stdout(), 'before\nend\n');
  });

  t.test('does not matter to a command that ends without reading', async (t) => {
    for (let round = 0; round < count(20); round++) {
      const none = await run(vm, ['true'], { input: content.subarray(0, 2_000_000) });
      t.match(none.result, { exitCode: 0, complete: true });
      const some = await run(vm, ['dd', 'bs=10', 'count=1', 'status=none'], { input: content });
      t.match(some.stdout, { bytes: 10, sha256: sha256(content.subarray(0, 10)) });
    }
  });

  t.test('does not matter to one that closes it and goes on', async (t) => {
    const { command, stdin, stdout } = await startScript(vm, 'exec <&-; echo closed; sleep 1; echo end');
    await eventually('it has closed it', () => stdout() !== '');
    stdin.end(content.subarray(0, 2_000_000));
    t.match(await command.result, { exitCode: 0 });
    t.equal(stdout(), 'closed\nend\n');
  });
}

async function standingStill(t: Test, vm: Vm): Promise<void> {
  await vm.writeFiles('/content', [content.subarray(0, 4_000_000)]);

  t.test('takes no more than its windows, and holds nobody else up', async (t) => {
    // One that does not read, one that is not read.
    const deaf = await startScript(vm, 'exec sleep 1000');
    let resume = () => {};
    const paused = new Promise<void>((resolve) => {
      resume = resolve;
    });
    const unread = new Collector();
    const mute = await vm.run(commandSpec(['cat', '/content']), {
      stdout: (piece) => {
        unread.sink(piece);
        return paused;
      },
      stderr: () => {},
    });
    const input = content.subarray(0, 4_000_000);
    deaf.stdin.write(input);
    await eventually('the one is full', () => deaf.stdin.sent >= STREAM_WINDOW);
    await eventually('the other too', () => (mute.stdout?.received ?? 0) >= STREAM_WINDOW / 2);

    for (let round = 0; round < count(20); round++) {
      const both = await run(vm, ['cat'], { input });
      t.match(both.stdout, { bytes: input.length, sha256: sha256(input) });
    }
    // What the agent holds for it, and what its pipe does.
    t.ok(deaf.stdin.sent <= 3 * STREAM_WINDOW, `${deaf.stdin.sent} bytes were sent to who does not read`);
    t.ok((mute.stdout?.received ?? 0) <= STREAM_WINDOW);
    const { agent } = (await vm.stats()).memory;
    t.ok(agent < 8 * 1024 * 1024, `the agent has ${agent} bytes`);

    resume();
    t.match(await mute.result, { complete: true, totals: { stdout: input.length } });
    t.match(unread.collected(), { sha256: sha256(input) });
    await deaf.command.signal(SIGKILL, { tree: true });
    t.match(await deaf.command.result, { exitCode: 128 + SIGKILL });
  });

  t.test('goes on where it stood', async (t) => {
    await shell(vm, 'mkfifo /gate');
    const { command, stdin, stdout } = await startScript(vm, 'read line </gate; exec sha256sum');
    const input = content.subarray(0, 4_000_000);
    stdin.end(input);
    await sleep(1000);
    t.equal(stdout(), '');
    await shell(vm, 'echo go >/gate');
    t.match(await command.result, { exitCode: 0 });
    t.equal(stdout(), `${sha256(input)}  -\n`);
  });
}

async function terminal(t: Test, vm: Vm): Promise<void> {
  t.test('is one, of the size asked for', async (t) => {
    const tty = { rows: 33, columns: 101 };
    const script =
      'tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; echo $TERM; echo error >&2';
    const { result, stdout, stderr } = await run(vm, { argv: ['sh', '-c', script], tty });
    t.match(stdout.text, /^\/dev\/pts\/\d+\r\n33 101\r\nall\r\nxterm\r\nerror\r\n$/);
    t.match(result, { exitCode: 0, complete: true, totals: { stdout: stdout.bytes } });
    t.equal(stderr.bytes, 0, 'both outputs are one stream');
  });

  t.test('tells its program when the size changes', async (t) => {
    const script = 'trap "stty size; exit 4" WINCH; echo ready; while :; do sleep 0.1; done';
    const { command, stdout } = await startOnTerminal(vm, script);
    await eventually('it is ready', () => stdout() !== '');
    await command.resize(50, 132);
    t.match(await command.result, { exitCode: 4 });
    t.equal(stdout(), 'ready\r\n50 132\r\n');
    const plain = await startScript(vm, 'cat');
    await t.rejects(plain.command.resize(1, 1), { code: 'YAVM_E_GUEST_BAD_REQUEST' }, 'a pipe has no size');
    plain.stdin.end();
    await plain.command.result;
  });

  t.test('makes signals of control characters', async (t) => {
    const keys: [key: string, signal: number][] = [
      [CTRL_C, 2],
      [CTRL_BACKSLASH, 3],
    ];
    for (const [key, signal] of keys) {
      const { command, stdin, stdout } = await startOnTerminal(vm, 'echo ready; exec sleep 1000');
      await eventually('it is ready', () => stdout() !== '');
      // Again until it is heard: a shell that is just becoming its program may lose a signal.
      const typing = setInterval(() => stdin.write(key), 500);
      stdin.write(key);
      t.match(await command.result, { exitCode: 128 + signal, signal });
      clearInterval(typing);
    }
    const caught = await startOnTerminal(vm, 'trap "echo caught; exit 6" INT; echo ready; read line');
    await eventually('it is ready', () => caught.stdout() !== '');
    caught.stdin.write(CTRL_C);
    t.match(await caught.command.result, { exitCode: 6, signal: undefined });
    t.equal(caught.stdout(), 'ready\r\n^Ccaught\r\n');
  });

  t.test('ends its input with Ctrl-D, or when the host ends it', async (t) => {
    const byKey = await startOnTerminal(vm, 'cat; echo end');
    byKey.stdin.write(`line\n${CTRL_D}`);
    t.match(await byKey.command.result, { exitCode: 0 });
    t.equal(byKey.stdout(), 'line\r\nline\r\nend\r\n', 'its echo, and what cat wrote');
    for (const last of ['line\n', 'half a line']) {
      const byHost = await startOnTerminal(vm, 'stty -echo; echo ready; cat; echo " end"');
      await eventually('it is ready', () => byHost.stdout() !== '');
      byHost.stdin.end(last);
      t.match(await byHost.command.result, { exitCode: 0 });
      t.equal(byHost.stdout(), `ready\r\n${last.replace('\n', '\r\n')} end\r\n`);
    }
  });

  t.test('gives all output of a command, also what it wrote last', async (t) => {
    const size = 1_000_000;
    await vm.writeFiles('/content', [content.subarray(0, size)]);
    const tty = { rows: 24, columns: 80 };
    for (let round = 0; round < count(20); round++) {
      const raw = await run(vm, { argv: ['sh', '-c', 'stty raw; cat /content'], tty });
      t.match(raw.result, { exitCode: 0, complete: true, totals: { stdout: size } });
      t.match(raw.stdout, { bytes: size, sha256: sha256(content.subarray(0, size)) });
      const cooked = await run(vm, { argv: ['seq', '20000'], tty });
      t.equal(
        cooked.stdout.text,
        Array.from({ length: 20_000 }, (_, number) => `${number + 1}\r\n`).join(''),
      );
    }
  });

  t.test('holds no one up when nobody reads it', async (t) => {
    const { command, stdin, stdout } = await startOnTerminal(vm, 'stty raw; echo ready; exec sleep 1000');
    await eventually('it is ready', () => stdout() !== '');
    stdin.write(content.subarray(0, 2_000_000));
    await eventually('it is full', () => stdin.sent >= STREAM_WINDOW);
    t.equal(await shell(vm, 'echo another'), 'another\n');
    await command.signal(SIGKILL);
    t.match(await command.result, { exitCode: 128 + SIGKILL });
    if (!stdin.writableFinished) {
      stdin.end();
      await once(stdin, 'finish');
    }
  });

  t.test('is a shell to type into', async (t) => {
    const tty = { rows: 24, columns: 80 };
    const running = await start(vm, {
      argv: ['sh', '-i'],
      stdin: true,
      tty,
      user: 'user',
      cwd: '/home/user',
    });
    const stdin = running.command.stdin as InputStream;
    stdin.write('echo $((6 * 7)) of $(id -un)\n');
    await eventually('it answers', () => running.stdout().includes('42 of user\r\n'));
    // Said by the program that Ctrl-C is for: while the shell still starts it, the key may hit the shell alone.
    stdin.write("sh -c 'echo waiting; exec sleep 1000'\n");
    await eventually('it waits', () => running.stdout().includes('\nwaiting\r\n'));
    stdin.write(CTRL_C);
    stdin.write('echo again; exit 9\n');
    t.match(await running.command.result, { exitCode: 9 });
    t.match(running.stdout(), /\r\nagain\r\n/, 'the key ended the command, not the shell');
    t.notMatch(running.stdout(), 'job control', 'with its terminal in hand');
  });
}
