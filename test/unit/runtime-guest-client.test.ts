import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { FrameType, STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import { YavmError } from '../../host/lib/errors.ts';
import type { Sink } from '../../host/runtime/output-stream.ts';
import { commandSpec, startSession } from '../lib/guest-session.ts';
import { replyExamples } from '../lib/messages.ts';
import { Random } from '../lib/random.ts';

const random = new Random();
t.comment(`seed ${random.seed}`);

t.test('hello arrives, and only once', async (t) => {
  const { client, guest, ended } = await startSession(t);
  guest.hello({ agent: '9.9' });
  t.match(await client.hello(5000), { agent: '9.9', protocol: 1 });
  guest.hello();
  t.match(await ended, { code: 'YAVM_E_GUEST_PROTOCOL', message: /yavm\.control: a second hello/ });
});

t.test('a guest that does not say hello is given up at the deadline', async (t) => {
  const { client } = await startSession(t);
  await t.rejects(client.hello(30), { code: 'YAVM_E_TIMEOUT' });
});

t.test('requests are answered in any order, and refusals are named errors', async (t) => {
  const { client, guest } = await startSession(t);
  guest.answer = () => {};
  const first = client.request({ op: 'log-level', level: 'debug' });
  const second = client.request({ op: 'stats' });
  const third = client.request({ op: 'signal', process: 99, signal: 9 });
  const refused = t.rejects(third, {
    code: 'YAVM_E_GUEST_UNKNOWN_PROCESS',
    message: /no \\x1b process/,
    errno: 'ESRCH',
    syscall: 'kill',
    operation: 'signal',
  });
  const [level, stats, signal] = [
    await guest.requested('log-level'),
    await guest.requested('stats'),
    await guest.requested('signal'),
  ];
  guest.refuse(signal.id, {
    code: 'unknown-process',
    message: 'no \x1b process',
    errno: 'ESRCH',
    syscall: 'kill',
  });
  guest.reply(stats.id, { ...replyExamples.stats, novelty: true });
  guest.reply(level.id, {});
  t.strictSame(await second, replyExamples.stats);
  t.strictSame(await first, {});
  await refused;
});

t.test('a request has a deadline; its late answer is forgiven, an invented one is not', async (t) => {
  const { client, guest, ends, ended } = await startSession(t);
  guest.answer = () => {};
  await t.rejects(client.request({ op: 'stats' }, { deadline: 20 }), { code: 'YAVM_E_GUEST_TIMEOUT' });
  const { id } = await guest.requested('stats');
  guest.reply(id, 'anything');
  const level = client.request({ op: 'log-level', level: 'info' });
  guest.reply((await guest.requested('log-level')).id, {});
  await level;
  t.strictSame(ends, []);
  guest.reply(id, {});
  t.match(await ended, { code: 'YAVM_E_GUEST_PROTOCOL', message: /an answer to request/ });
});

t.test('a request is given up with its signal', async (t) => {
  const { client, guest } = await startSession(t);
  guest.answer = () => {};
  const stop = new AbortController();
  const asked = t.rejects(client.request({ op: 'stats' }, { signal: stop.signal }), /enough/);
  stop.abort(new Error('enough'));
  await asked;
  await t.rejects(client.request({ op: 'stats' }, { signal: stop.signal }), /enough/);
});

t.test('too many requests, and too long ones, are refused here', async (t) => {
  const { client, guest } = await startSession(t);
  guest.answer = () => {};
  const long = commandSpec({ argv: ['x'.repeat(2 ** 20)] });
  await t.rejects(client.run(long), { code: 'YAVM_E_REQUEST_TOO_LONG' });
  const waiting = Array.from({ length: 200 }, () => client.request({ op: 'stats' }).catch(() => {}));
  await t.rejects(client.request({ op: 'stats' }), { code: 'YAVM_E_GUEST_BUSY' });
  client.close(new Error('over'));
  await Promise.all(waiting);
});

t.test('a malformed answer ends the guest, and fails the request', async (t) => {
  const { client, guest, ended } = await startSession(t);
  guest.answer = (request) => guest.reply(request.id, { pid: -1 });
  await t.rejects(client.run(commandSpec()), { code: 'YAVM_E_GUEST_PROTOCOL', message: /ok of 'run'\.pid/ });
  t.match(await ended, { code: 'YAVM_E_GUEST_PROTOCOL' });
});

t.test('a command: streams, exit code, figures', async (t) => {
  const { client, guest } = await startSession(t);
  const seen: Buffer[] = [];
  const running = client.run(commandSpec({ user: 'nobody', cwd: '/tmp', stdin: true }), {
    stdout: (bytes) => void seen.push(Buffer.from(bytes)),
  });
  const request = await guest.requested('run');
  const { stdout, stderr, stdin } = request;
  t.match(request, { argv: ['/bin/true'], user: 'nobody', cwd: '/tmp' });
  const [out, err] = [(stdout as { stream: number }).stream, (stderr as { stream: number }).stream];
  const command = await running;
  t.ok(command.pid > 0);
  command.stdin?.end('typed');
  t.equal((await guest.input(stdin as number)).toString(), 'typed');
  await guest.output(out, Buffer.from('hello '));
  await guest.output(out, Buffer.from('world'));
  await guest.output(err, Buffer.from('oh'));
  guest.end(out);
  guest.end(err);
  guest.exit(request.id, { code: 3, totals: { stdout: 11, stderr: 2 } });
  t.match(await command.result, {
    exitCode: 3,
    complete: true,
    outOfMemory: false,
    totals: { stdout: 11, stderr: 2 },
  });
  t.equal(Buffer.concat(seen).toString(), 'hello world');
  t.equal((await command.stderr?.collect(100))?.toString(), 'oh');
});

t.test('an end by signal is 128 + its number', async (t) => {
  const { client, guest } = await startSession(t);
  const command = await client.run(commandSpec({ stdout: 'discard', stderr: 'merge' }));
  const request = await guest.requested('run');
  t.equal(request.stdout, 'discard');
  t.equal(request.stderr, 'stdout');
  guest.exit(request.id, { signal: 9, outOfMemory: true });
  t.match(await command.result, { exitCode: 137, signal: 9, outOfMemory: true });
});

t.test('the exit is held until the announced bytes are here and taken', async (t) => {
  const { client, guest } = await startSession(t);
  let taken = 0;
  const command = await client.run(commandSpec({ stderr: 'discard' }), {
    stdout: async (bytes) => {
      await delay(30);
      taken += bytes.length;
    },
  });
  const request = await guest.requested('run');
  guest.exit(request.id, { totals: { stdout: 1000 } });
  let settled = false;
  command.result.then(() => {
    settled = true;
  });
  await delay(50);
  t.notOk(settled, 'the bytes have not come');
  await guest.output((request.stdout as { stream: number }).stream, new Uint8Array(1000));
  t.match(await command.result, { complete: true });
  t.equal(taken, 1000, 'without an end of the stream: a background child keeps it');
});

t.test('announced bytes that never come: told as incomplete', async (t) => {
  const { client, guest } = await startSession(t, { outputWait: 50 });
  const command = await client.run(commandSpec());
  const request = await guest.requested('run');
  await guest.output((request.stdout as { stream: number }).stream, new Uint8Array(10));
  guest.exit(request.id, { totals: { stdout: 11, stderr: 0 } });
  t.match(await command.result, { complete: false });
});

t.test('a background child writes after the exit', async (t) => {
  const { client, guest } = await startSession(t);
  const command = await client.run(commandSpec());
  const request = await guest.requested('run');
  const stream = (request.stdout as { stream: number }).stream;
  guest.exit(request.id, { totals: { stdout: 0, stderr: 0 } });
  await command.result;
  await guest.output(stream, Buffer.from('late'));
  guest.end(stream);
  t.equal((await command.stdout?.collect(10))?.toString(), 'late');
});

t.test('a slow reader stops its own stream only, within the window', async (t) => {
  const { client, guest } = await startSession(t);
  const slow = await client.run(commandSpec({ stderr: 'discard' }));
  const slowStream = ((await guest.requested('run')).stdout as { stream: number }).stream;
  const fast = await client.run(commandSpec({ stderr: 'discard' }));
  const fastStream = ((await guest.requested('run')).stdout as { stream: number }).stream;
  const payload = random.bytes(3 * 1024 * 1024);
  let sent = false;
  const sending = guest.output(slowStream, payload).then(() => {
    sent = true;
    guest.end(slowStream);
  });
  const other = guest.output(fastStream, payload).then(() => guest.end(fastStream));
  t.ok((await fast.stdout?.collect(payload.length))?.equals(payload), 'the other one passes');
  await other;
  t.notOk(sent);
  t.equal(slow.stdout?.received, STREAM_WINDOW, 'exactly the window was taken');
  const chunks: Buffer[] = [];
  for await (const chunk of slow.stdout ?? []) chunks.push(chunk);
  t.ok(Buffer.concat(chunks).equals(payload), 'and then the rest');
  await sending;
});

t.test('leaving the loop early discards the rest', async (t) => {
  const { client, guest } = await startSession(t);
  const command = await client.run(commandSpec({ stderr: 'discard' }));
  const stream = ((await guest.requested('run')).stdout as { stream: number }).stream;
  const sending = guest.output(stream, new Uint8Array(2 * 1024 * 1024));
  for await (const _ of command.stdout ?? []) break;
  await sending;
  guest.end(stream);
  t.pass('all was taken');
});

t.test('a sink that fails leaves the stream standing; the result still comes', async (t) => {
  const { client, guest } = await startSession(t);
  const command = await client.run(commandSpec({ stderr: 'discard' }));
  const request = await guest.requested('run');
  const stream = (request.stdout as { stream: number }).stream;
  const consumed = command.stdout?.consume(() => {
    throw new Error('EPIPE');
  });
  await guest.output(stream, Buffer.from('x'));
  await t.rejects(consumed as Promise<void>, /EPIPE/);
  guest.exit(request.id, { totals: { stdout: 1 } });
  t.match(await command.result, { complete: true });
});

t.test('a sink may return anything; only promises are waited for', async (t) => {
  const { client, guest } = await startSession(t);
  const seen: Buffer[] = [];
  // JavaScript may hand over what TypeScript would not let pass.
  const sink = ((bytes) => seen.push(Buffer.from(bytes)) > 0) as (bytes: Uint8Array) => unknown as Sink;
  const command = await client.run(commandSpec({ stderr: 'discard' }), { stdout: sink });
  const request = await guest.requested('run');
  const stream = (request.stdout as { stream: number }).stream;
  for (const text of ['one ', 'two ', 'three']) await guest.output(stream, Buffer.from(text));
  guest.exit(request.id, { totals: { stdout: 13 } });
  await command.result;
  t.equal(Buffer.concat(seen).toString(), 'one two three');
});

t.test('stdin obeys the credit of the guest', async (t) => {
  const { client, guest } = await startSession(t);
  const command = await client.run(commandSpec({ stdin: true }));
  const stream = (await guest.requested('run')).stdin as number;
  guest.granting = false;
  const payload = random.bytes(1024 * 1024);
  command.stdin?.end(payload);
  while (guest.inputLength(stream) < STREAM_WINDOW) await delay(5);
  await delay(100);
  t.equal(guest.inputLength(stream), STREAM_WINDOW, 'no more than the window without credit');
  guest.granting = true;
  guest.frame(FrameType.credit, stream, new Uint8Array([0, 0, 4, 0]));
  t.ok((await guest.input(stream)).equals(payload));
});

t.test('input for a command that has ended is dropped, not an error', async (t) => {
  const { client, guest } = await startSession(t);
  const command = await client.run(commandSpec({ stdin: true }));
  const request = await guest.requested('run');
  guest.granting = false;
  const written = new Promise<void>((resolve, reject) =>
    command.stdin?.write(new Uint8Array(1024 * 1024), (error) => (error ? reject(error) : resolve())),
  );
  guest.exit(request.id);
  await command.result;
  await written;
  await new Promise<void>((resolve) => command.stdin?.end('more', resolve));
  t.notOk(command.stdin?.errored);
});

t.test('a command that cannot start: errno and path; its streams are forgotten', async (t) => {
  const { client, guest, ends } = await startSession(t);
  guest.answer = ({ id }) =>
    guest.refuse(id, { code: 'spawn-failed', message: 'no', errno: 'ENOENT', syscall: 'execve', path: '/x' });
  await t.rejects(client.run(commandSpec({ argv: ['/x'], stdin: true })), {
    code: 'YAVM_E_GUEST_SPAWN_FAILED',
    errno: 'ENOENT',
    path: '/x',
  });
  const request = await guest.requested('run');
  const stream = (request.stdout as { stream: number }).stream;
  guest.frame(FrameType.data, stream, new Uint8Array(10));
  guest.end(stream);
  guest.answer = ({ id }) => guest.reply(id, {});
  await client.request({ op: 'log-level', level: 'info' });
  t.strictSame(ends, []);
});

t.test('a start that was given up and then succeeds is killed', async (t) => {
  const { client, guest, ends } = await startSession(t);
  guest.answer = () => {};
  await t.rejects(client.run(commandSpec(), { deadline: 20 }), { code: 'YAVM_E_GUEST_TIMEOUT' });
  const { id } = await guest.requested('run');
  guest.reply(id, { pid: 7 });
  t.match(await guest.requested('signal'), { process: id, signal: 9, tree: true });
  guest.exit(id, { signal: 9 });
  guest.answer = (request) => guest.reply(request.id, {});
  await client.request({ op: 'log-level', level: 'info' });
  t.strictSame(ends, []);
});

t.test('the signal of a run kills the tree', async (t) => {
  const { client, guest } = await startSession(t);
  const stop = new AbortController();
  const command = await client.run(commandSpec(), { signal: stop.signal });
  stop.abort();
  t.match(await guest.requested('signal'), { process: command.id, signal: 9, tree: true });
});

t.test('signal, resize and input name the process', async (t) => {
  const { client, guest } = await startSession(t);
  const command = await client.run(commandSpec({ tty: { rows: 24, columns: 80 }, stdin: true }));
  const request = await guest.requested('run');
  t.equal(request.stderr, 'discard', 'a terminal has one output');
  await command.signal(15);
  t.match(await guest.requested('signal'), { process: command.id, signal: 15, tree: false });
  await command.resize(50, 100);
  t.match(await guest.requested('resize'), { process: command.id, rows: 50, columns: 100 });
  await command.closeInput();
  t.match(await guest.requested('input'), { process: command.id, action: 'close' });
});

t.test('a file is read whole, also when its reply comes first', async (t) => {
  const { client, guest } = await startSession(t);
  const content = random.bytes(700_000);
  guest.answer = async (request) => {
    if (request.op !== 'read-files') return;
    const sending = guest.output(request.stream, content);
    await sending;
    guest.reply(request.id, { bytes: content.length, entries: 1 });
    await delay(30);
    guest.end(request.stream);
  };
  const chunks: Buffer[] = [];
  const reply = await client.readFiles('/etc/x', async (bytes) => {
    await delay(1);
    chunks.push(Buffer.from(bytes));
  });
  t.strictSame(reply, { bytes: content.length, entries: 1 });
  t.ok(Buffer.concat(chunks).equals(content));
});

t.test('a file that came short, or whose sink fails, is an error', async (t) => {
  const { client, guest } = await startSession(t);
  guest.answer = (request) => {
    if (request.op !== 'read-files') return;
    guest.frame(FrameType.data, request.stream, new Uint8Array(5));
    guest.end(request.stream);
    guest.reply(request.id, { bytes: 6, entries: 1 });
  };
  await t.rejects(
    client.readFiles('/x', () => {}),
    { code: 'YAVM_E_TRANSFER_INCOMPLETE' },
  );
  const broken = client.readFiles('/x', () => {
    throw new Error('disk full');
  });
  await t.rejects(broken, /disk full/);
});

t.test(
  'a transfer that fails here is cancelled in the guest, and its bytes never seem to be all',
  async (t) => {
    const { client, guest } = await startSession(t);
    guest.answer = () => {};
    const cancelled = async (work: Promise<unknown>, op: 'read-files' | 'write-files') => {
      const failed = t.rejects(work, /no more/);
      const { id, ...transfer } = await guest.requested(op);
      if (op === 'read-files') guest.frame(FrameType.data, transfer.stream, new Uint8Array(5));
      await failed;
      t.match(await guest.requested('cancel'), { request: id });
      await delay(50);
      t.equal(guest.inputEnded(transfer.stream), false);
      // What the guest says of it afterwards is for nobody.
      guest.refuse(id, { code: 'file-failed', message: 'given up', errno: 'ECANCELED' });
    };
    const fail = () => {
      throw new Error('no more');
    };
    await cancelled(client.readFiles('/x', fail), 'read-files');
    async function* failing() {
      yield new Uint8Array(5);
      fail();
    }
    await cancelled(client.writeFiles('/x', failing()), 'write-files');
    const stop = new AbortController();
    // A source that ends at the very moment of the abort.
    async function* ending() {
      yield new Uint8Array(5);
      stop.abort(new Error('no more'));
    }
    await cancelled(client.writeFiles('/x', ending(), { signal: stop.signal }), 'write-files');
  },
);

t.test('files are written, and refusals stop the sending', async (t) => {
  const { client, guest } = await startSession(t);
  const content = random.bytes(600_000);
  guest.answer = async (request) => {
    if (request.op !== 'write-files') return;
    const input = await guest.input(request.stream);
    guest.reply(request.id, { bytes: input.length, entries: 1 });
  };
  t.strictSame(await client.writeFiles('/x', [content], { mode: 0o600 }), { bytes: 600_000, entries: 1 });
  t.match(await guest.requested('write-files'), { path: '/x', format: 'file', mode: 0o600 });

  guest.granting = false;
  guest.answer = ({ id }) => guest.refuse(id, { code: 'file-failed', message: 'full', errno: 'ENOSPC' });
  async function* endless() {
    for (;;) yield new Uint8Array(65536);
  }
  await t.rejects(client.writeFiles('/x', endless()), { code: 'YAVM_E_GUEST_FILE_FAILED', errno: 'ENOSPC' });

  guest.answer = () => {};
  async function* failing() {
    yield new Uint8Array(10);
    throw new Error('source is gone');
  }
  await t.rejects(client.writeFiles('/x', failing()), /source is gone/);
});

t.test('when the VM ends, everything that waits fails with its error', async (t) => {
  const { client, guest, ended } = await startSession(t);
  const command = await client.run(commandSpec({ stdin: true }));
  guest.answer = () => {};
  const request = client.request({ op: 'stats' });
  const reading = command.stdout?.collect(100) as Promise<Buffer>;
  guest.close();
  t.equal(await ended, null, 'the ports only closed: the VM finds out why');
  client.close(new YavmError('YAVM_E_GUEST_PANIC', 'boom'));
  for (const waiting of [request, reading, command.result, client.hello(1000), client.run(commandSpec())]) {
    await t.rejects(waiting as Promise<unknown>, { code: 'YAVM_E_GUEST_PANIC' });
  }
  t.match(command.stdin?.errored, { code: 'YAVM_E_GUEST_PANIC' });
});
