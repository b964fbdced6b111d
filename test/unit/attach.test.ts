import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import t from 'tap';
import { encodeMessage } from '../../guest/protocol/codec.ts';
import { encodeFrame, FrameType, MAX_DATA_PAYLOAD, STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import type { RequestBody, RequestOf } from '../../guest/protocol/messages.ts';
import { AttachClient } from '../../host/attach/client.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { startAttached } from '../lib/attached.ts';
import { commandSpec } from '../lib/guest-session.ts';

/** Lets what was sent arrive. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 50));

t.test('a client runs a command: both outputs, input, exit code, as the guest told it', async (t) => {
  const { guest, connect } = await startAttached(t);
  const client = await connect();
  const spec = commandSpec({
    argv: ['job', 'a b'],
    env: ['A=1'],
    cwd: '/w',
    user: 'u',
    stdin: true,
    rlimits: { core: [0, -1] },
  });
  const command = await client.run(spec);
  const request = await guest.requested('run');
  t.match(request, { argv: ['job', 'a b'], env: ['A=1'], cwd: '/w', user: 'u', rlimits: { core: [0, -1] } });
  t.equal(command.pid, 1000 + (request.id % 1000));

  command.stdin?.end('typed');
  t.equal((await guest.input(request.stdin as number)).toString(), 'typed');

  const [stdout, stderr] = [command.stdout?.collect(1000), command.stderr?.collect(1000)];
  const streams = [request.stdout, request.stderr] as { stream: number }[];
  await guest.output(streams[0]!.stream, Buffer.from('out'));
  await guest.output(streams[1]!.stream, Buffer.from('error'));
  for (const { stream } of streams) guest.end(stream);
  guest.exit(request.id, { code: 3, totals: { stdout: 3, stderr: 5 }, memoryPeak: 77, outOfMemory: true });
  t.match(await command.result, { exitCode: 3, complete: true, outOfMemory: true, memoryPeak: 77 });
  t.equal((await stdout)?.toString(), 'out');
  t.equal((await stderr)?.toString(), 'error');
});

t.test('large output arrives whole, and a client that does not read holds the guest back', async (t) => {
  const { guest, connect } = await startAttached(t);
  const client = await connect();
  const bytes = randomBytes(12 * STREAM_WINDOW);
  const command = await client.run(commandSpec({ stderr: 'merge' }));
  const request = await guest.requested('run');
  t.equal(request.stderr, 'stdout');
  const { stream } = request.stdout as { stream: number };
  let sent = false;
  const sending = guest.output(stream, bytes).then(() => {
    sent = true;
    guest.end(stream);
    guest.exit(request.id, { totals: { stdout: bytes.length } });
  });
  await settle();
  t.equal(sent, false, 'three windows are full, the rest waits');
  const hash = createHash('sha256');
  await command.stdout?.consume((piece) => void hash.update(piece));
  await sending;
  t.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'));
  t.match(await command.result, { complete: true, exitCode: 0 });
});

t.test('the exit comes after the output, though the client reads late', async (t) => {
  const { guest, connect } = await startAttached(t);
  const command = await (await connect()).run(commandSpec());
  const request = await guest.requested('run');
  const { stream } = request.stdout as { stream: number };
  const bytes = Buffer.alloc(2 * STREAM_WINDOW + 70_000, 'x');
  const sending = guest.output(stream, bytes);
  guest.exit(request.id, { totals: { stdout: bytes.length } });
  let ended = false;
  command.result.then(() => {
    ended = true;
  });
  await settle();
  t.equal(ended, false);
  let received = 0;
  const reading = command.stdout?.consume((piece) => {
    received += piece.length;
  });
  // It ends with the test, and not before.
  reading?.catch(() => {});
  t.match(await command.result, { complete: true });
  t.equal(received, bytes.length, 'though the stream has not ended: a child may hold it');
  await sending;
});

t.test('output that the guest never sends is told as incomplete', async (t) => {
  const { guest, connect } = await startAttached(t, { outputWait: 50 });
  const command = await (await connect()).run(commandSpec());
  const request = await guest.requested('run');
  const { stream } = request.stdout as { stream: number };
  await guest.output(stream, Buffer.from('part'));
  guest.exit(request.id, { totals: { stdout: 100 } });
  t.match(await command.result, { complete: false });
});

t.test('a refusal of the guest reaches the client with its code, errno and path', async (t) => {
  const { guest, connect } = await startAttached(t);
  const client = await connect();
  guest.answer = ({ id }) =>
    guest.refuse(id, {
      code: 'spawn-failed',
      message: 'no such file',
      errno: 'ENOENT',
      syscall: 'execve',
      path: '/x',
    });
  const error = await client.run(commandSpec({ stdin: true })).catch((error) => error);
  t.match(error, {
    code: 'YAVM_E_GUEST_SPAWN_FAILED',
    message: 'no such file',
    errno: 'ENOENT',
    syscall: 'execve',
    path: '/x',
  });
});

t.test('signals, window sizes, closed input and figures are passed on, for own commands only', async (t) => {
  const { guest, supervisor, connect } = await startAttached(t);
  const foreign = await supervisor.run(commandSpec());
  const client = await connect();
  const command = await client.run(commandSpec({ tty: { rows: 1, columns: 2 }, stdin: true }));
  const [, request] = [await guest.requested('run'), await guest.requested('run')];
  t.match(request, { tty: { rows: 1, columns: 2 } });
  await command.signal(15, { tree: true });
  t.match(await guest.requested('signal'), { process: request.id, signal: 15, tree: true });
  await command.resize(3, 4);
  t.match(await guest.requested('resize'), { process: request.id, rows: 3, columns: 4 });
  await command.closeInput();
  t.same(await guest.input(request.stdin as number), Buffer.alloc(0));
  // The supervisor's command has a number too, but in another name space.
  const error = await rawRequest(t, client, { op: 'signal', process: foreign.id + 100, signal: 9 });
  t.match(error, { code: 'YAVM_E_GUEST_UNKNOWN_PROCESS' });
});

t.test('two clients with the same numbers do not touch each other', async (t) => {
  const { guest, connect } = await startAttached(t);
  const clients = [await connect(), await connect()];
  const commands = [await clients[0]!.run(commandSpec()), await clients[1]!.run(commandSpec())];
  const requests = [await guest.requested('run'), await guest.requested('run')];
  t.equal(commands[0]!.id, commands[1]!.id, 'both call it the same');
  t.not(requests[0]!.id, requests[1]!.id);
  for (const [index, request] of requests.entries()) {
    const { stream } = request.stdout as { stream: number };
    await guest.output(stream, Buffer.from(`from ${index}`));
    guest.end(stream);
  }
  for (const [index, command] of commands.entries()) {
    t.equal((await command.stdout?.collect(100))?.toString(), `from ${index}`);
  }
  await commands[1]!.signal(9);
  t.match(await guest.requested('signal'), { process: requests[1]!.id });
});

t.test('a client that leaves takes its commands with it, but not those of others', async (t) => {
  const { guest, connect } = await startAttached(t);
  const [leaving, staying] = [await connect(), await connect()];
  await leaving.run(commandSpec());
  const request = await guest.requested('run');
  await staying.run(commandSpec());
  leaving.close();
  t.match(await guest.requested('signal'), { process: request.id, signal: 9, tree: true });
  await settle();
  t.equal(guest.requests.filter(({ op }) => op === 'signal').length, 0);
});

t.test(
  'a command of the supervisor is adopted: its input and window, not its output or its life',
  async (t) => {
    const { guest, supervisor, tokens, connect } = await startAttached(t);
    const owned = await supervisor.run(commandSpec({ stdin: true, tty: { rows: 24, columns: 80 } }));
    const request = await guest.requested('run');
    tokens.set('batch-1', owned);
    const [client, other] = [await connect(), await connect()];
    const adopted = await client.adopt('batch-1', { stdin: true });
    t.equal(adopted.pid, owned.pid);
    await adopted.resize(50, 132);
    t.match(await guest.requested('resize'), { process: request.id, rows: 50, columns: 132 });
    adopted.stdin?.write('typed');
    await other.adopt('batch-1', { stdin: false });
    other.close();
    client.close();
    await settle();
    t.equal(
      guest.requests.filter(({ op }) => op === 'signal').length,
      0,
      'a client that leaves takes nothing along',
    );
    await guest.output((request.stdout as { stream: number }).stream, Buffer.from('out'));
    guest.exit(request.id, { code: 4, totals: { stdout: 3 } });
    t.match(await owned.result, { exitCode: 4, complete: true });
    t.equal(owned.stdout?.received, 3, 'its output went to its owner');
  },
);

t.test('who adopts a command learns of its end; what does not run cannot be adopted', async (t) => {
  const { guest, supervisor, tokens, connect } = await startAttached(t);
  const owned = await supervisor.run(commandSpec());
  const request = await guest.requested('run');
  tokens.set('x', owned);
  const client = await connect();
  await t.rejects(client.adopt('y', { stdin: true }), { code: 'YAVM_E_GUEST_UNKNOWN_PROCESS' });
  const adopted = await client.adopt('x', { stdin: false });
  guest.exit(request.id, { code: 5, totals: {} });
  t.match(await adopted.result, { exitCode: 5 });
});

t.test('a command that was detached goes on, and its output is drained', async (t) => {
  const { guest, connect } = await startAttached(t);
  const client = await connect();
  const command = await client.run(commandSpec({ tty: { rows: 24, columns: 80 }, stdin: true }));
  const request = await guest.requested('run');
  await client.detach(command);
  await guest.output((request.stdout as { stream: number }).stream, Buffer.alloc(2 * STREAM_WINDOW));
  const input = guest.input(request.stdin as number).then(() => 'ended');
  t.equal(
    await Promise.race([input, settle().then(() => 'open')]),
    'open',
    'a shell would end with its input',
  );
  t.equal(guest.requests.filter(({ op }) => op === 'signal').length, 0);
});

t.test('a command that is detached while it prints goes on', async (t) => {
  const { guest, connect } = await startAttached(t);
  for (let round = 0; round < 20; round++) {
    const client = await connect();
    const command = await client.run(commandSpec({ tty: { rows: 24, columns: 80 }, stdin: true }));
    const request = guest.requests.filter(({ op }) => op === 'run').at(-1) as RequestOf<'run'>;
    // On its way to the client when that leaves.
    const { stream } = request.stdout as { stream: number };
    const printed = guest.output(stream, Buffer.alloc(STREAM_WINDOW / 2));
    await client.detach(command);
    await printed;
  }
  await settle();
  t.equal(guest.requests.filter(({ op }) => op === 'signal').length, 0, 'none was killed');
});

t.test('only what a client is for can be asked: the VM is not its to configure or end', async (t) => {
  const { guest, connect } = await startAttached(t);
  const client = await connect();
  const forbidden: RequestBody[] = [
    { op: 'shutdown', grace: 0 },
    { op: 'mount', mount: { kind: 'ram', size: 4096, path: '/x' } },
    { op: 'network', network: {} },
    { op: 'log-level', level: 'trace' },
    { op: 'abort', how: 'panic' },
  ];
  for (const body of forbidden) {
    t.match(await rawRequest(t, client, body), { code: 'YAVM_E_GUEST_UNKNOWN_REQUEST' }, body.op);
  }
  await settle();
  t.equal(guest.requests.length, 0);
});

t.test('a client’s transfer that fails, or whose client leaves, is cancelled in the guest', async (t) => {
  const { guest, connect } = await startAttached(t);
  const client = await connect();
  guest.answer = () => {};
  async function* failing() {
    yield new Uint8Array(5);
    throw new Error('no more');
  }
  const failed = t.rejects(client.writeFiles('/x', failing()), /no more/);
  const first = await guest.requested('write-files');
  await failed;
  t.match(await guest.requested('cancel'), { request: first.id });
  const endless = new PassThrough();
  endless.write('x');
  const cut = t.rejects(client.writeFiles('/x', endless));
  const second = await guest.requested('write-files');
  client.close();
  await cut;
  t.match(await guest.requested('cancel'), { request: second.id });
  await settle();
  t.strictSame(
    [first, second].map(({ stream }) => guest.inputEnded(stream)),
    [false, false],
  );
});

t.test('files go both ways', async (t) => {
  const { guest, connect } = await startAttached(t);
  const client = await connect();
  const content = randomBytes(700_000);
  guest.answer = async (request) => {
    if (request.op === 'read-files') {
      await guest.output(request.stream, content);
      guest.end(request.stream);
      guest.reply(request.id, { bytes: content.length, entries: 1 });
    } else if (request.op === 'write-files') {
      const bytes = await guest.input(request.stream);
      guest.reply(request.id, { bytes: bytes.length, entries: 1 });
    }
  };
  const chunks: Buffer[] = [];
  const read = await client.readFiles('/f', (bytes) => void chunks.push(Buffer.from(bytes)), {
    format: 'tar',
  });
  t.same(read, { bytes: content.length, entries: 1 });
  t.equal(Buffer.compare(Buffer.concat(chunks), content), 0);
  t.match(await guest.requested('read-files'), { path: '/f', format: 'tar' });

  const written = await client.writeFiles('/g', Readable.from([content]), { mode: 0o640, uid: 5 });
  t.same(written, { bytes: content.length, entries: 1 });
  t.match(await guest.requested('write-files'), { path: '/g', format: 'file', mode: 0o640, uid: 5 });
});

t.test('the socket is for its owner alone, and goes away with the server', async (t) => {
  const { server, path, connect } = await startAttached(t);
  t.equal(statSync(path).mode & 0o777, 0o600);
  const client = await connect();
  const waiting = client.run(commandSpec()).then((command) => command.result);
  await server.close();
  await t.rejects(waiting, { code: 'YAVM_E_ATTACH_CLOSED' });
  t.throws(() => statSync(path), { code: 'ENOENT' });
  await t.rejects(AttachClient.connect(path, silentLogger), { code: 'YAVM_E_ATTACH', hint: /ya-vm ps/ });
});

t.test('when the VM ends its clients are told', async (t) => {
  const { supervisor, connect } = await startAttached(t);
  const client = await connect();
  const command = await client.run(commandSpec());
  supervisor.close(new Error('the VM died'));
  await t.rejects(command.result, { code: 'YAVM_E_ATTACH_CLOSED' });
});

t.test('a client that breaks the protocol is dropped, and its command killed; others go on', async (t) => {
  const { guest, path, connect: connectClient } = await startAttached(t);
  guest.granting = false;
  const good = await connectClient();
  const bad: [string, Uint8Array][] = [
    ['no frame', Buffer.alloc(64, 0xff)],
    ['a type that has no place here', encodeFrame(FrameType.log, 0, Buffer.from('{}'))],
    ['no CBOR', encodeFrame(FrameType.message, 0, Buffer.from([0xff, 0xff]))],
    ['a request without an id', encodeFrame(FrameType.message, 0, Buffer.from([0xa0]))],
    ['more data than credit', overdraft()],
    ['the same id twice', Buffer.concat([run(1), run(1)])],
  ];
  for (const [name, bytes] of bad) {
    const socket = await rawClient(t, path);
    socket.write(bytes);
    await closed(socket);
    t.pass(name);
  }
  guest.requests.length = 0;
  await good.run(commandSpec());
  t.match(await guest.requested('run'), { argv: ['/bin/true'] });
});

t.test('a malformed request that has an id is answered, not fatal', async (t) => {
  const { connect } = await startAttached(t);
  const client = await connect();
  t.match(await rawRequest(t, client, { op: 'signal', process: -1, signal: 9 }), {
    code: 'YAVM_E_GUEST_BAD_REQUEST',
  });
  t.match(await rawRequest(t, client, { op: 'signal', process: 1, signal: 9 }), {
    code: 'YAVM_E_GUEST_UNKNOWN_PROCESS',
  });
});

t.test('commands and clients are bounded', async (t) => {
  const { path, connect: connectClient } = await startAttached(t);
  const client = await connectClient();
  const results = await Promise.allSettled(
    Array.from({ length: 40 }, () => client.run(commandSpec({ stdout: 'discard', stderr: 'discard' }))),
  );
  const refused = results.filter(({ status }) => status === 'rejected');
  t.equal(refused.length, 8);
  t.match(refused[0], { reason: { code: 'YAVM_E_GUEST_BAD_REQUEST', message: /32 commands/ } });
  const sockets = await Promise.all(Array.from({ length: 15 }, () => rawClient(t, path)));
  await settle();
  t.equal(sockets.filter((socket) => socket.destroyed).length, 0);
  const last = await rawClient(t, path);
  await closed(last);
  t.pass('the 17th is turned away');
});

// ---------------------------------------------------------------- helpers

/** Sends a request that AttachClient has no method for; returns what it fails with. */
async function rawRequest(_t: unknown, client: AttachClient, body: RequestBody): Promise<unknown> {
  return await client.request(body as never).then(
    () => null,
    (error) => error,
  );
}

async function rawClient(t: { teardown(fn: () => void): void }, path: string): Promise<Socket> {
  const socket = connect(path);
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Resolves when the other side has closed; a reset is one way to do that. */
function closed(socket: Socket): Promise<void> {
  socket.resume();
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

function run(id: number, stdin?: number): Uint8Array {
  const body = { id, op: 'run', argv: ['x'], env: [], stdout: 'discard', stderr: 'discard', stdin } as const;
  return encodeFrame(FrameType.message, 0, encodeMessage(JSON.parse(JSON.stringify(body))));
}

/** More than the windows of client and guest together, for a command that reads nothing. */
function overdraft(): Uint8Array {
  // The server's window, what the guest takes, and one more.
  const frames = (3 * STREAM_WINDOW) / MAX_DATA_PAYLOAD;
  const data = encodeFrame(FrameType.data, 9, Buffer.alloc(MAX_DATA_PAYLOAD));
  return Buffer.concat([run(1, 9), ...Array<Uint8Array>(frames).fill(data)]);
}
