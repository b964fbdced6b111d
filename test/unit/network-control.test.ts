import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { deferred } from '../../host/lib/deferred.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { connectNetworkControl } from '../../host/network/control-client.ts';
import { serveNetworkControl } from '../../host/network/control-server.ts';
import { encodeLine, Lines } from '../../host/network/control-wire.ts';
import { FakeControl, SAMPLE_STATS } from '../lib/network-control.ts';

type Test = { teardown(fn: () => unknown): void };

/** In a folder whose path is short enough for sockets. */
function socketPath(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-net-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'network.sock');
}

async function serve(t: Test) {
  const path = socketPath(t);
  const control = new FakeControl();
  const server = await serveNetworkControl(control, path, silentLogger);
  t.teardown(() => server.close());
  const open = async () => {
    const client = await connectNetworkControl(path);
    t.teardown(() => client.close());
    return client;
  };
  return { path, control, server, open };
}

/** Sends bytes as they are. @returns everything that is answered until the connection ends or `lines` lines came */
async function raw(
  path: string,
  text: string | Uint8Array,
  lines = Number.POSITIVE_INFINITY,
): Promise<unknown[]> {
  const socket = connect({ path });
  const answers: unknown[] = [];
  const over = deferred<void>();
  const reader = new Lines(1024 ** 2, (value) => {
    answers.push(value);
    if (answers.length >= lines) over.resolve();
  });
  socket.on('data', (chunk: Uint8Array) => reader.push(chunk));
  socket.on('error', () => {});
  socket.on('close', () => over.resolve());
  socket.write(text);
  await over.promise;
  socket.destroy();
  return answers;
}

async function until(what: () => boolean): Promise<void> {
  for (let wait = 0; wait < 6000 && !what(); wait++) await new Promise((resolve) => setTimeout(resolve, 10));
}

t.test('stats and pings of several clients, through a socket of this user alone', async (t) => {
  const { path, control, open } = await serve(t);
  t.equal(statSync(path).mode & 0o777, 0o600);
  const clients = await Promise.all([open(), open(), open()]);
  for (const client of clients) t.same(await client.stats(), SAMPLE_STATS);
  const first = clients[0]!;
  const late = deferred<{ milliseconds: number }>();
  control.onPing = (address) =>
    address === '10.5.0.9' ? late.promise : Promise.resolve({ milliseconds: 0.25 });
  const slow = first.ping('10.5.0.9', 900);
  t.same(await first.ping('10.5.0.3', 1000), { milliseconds: 0.25 }, 'one that waits delays no other');
  late.resolve({ milliseconds: 850 });
  t.same(await slow, { milliseconds: 850 });
  t.same(control.pings[0], { address: '10.5.0.9', milliseconds: 900 });
});

t.test('errors arrive with code, hint and causes', async (t) => {
  const { control, open } = await serve(t);
  control.onPing = async (address) => {
    throw new YavmError('YAVM_E_NET_PING', `${address}: nobody`, { hint: 'Look.', cause: new Error('why') });
  };
  const client = await open();
  await t.rejects(client.ping('10.5.0.4', 100), {
    code: 'YAVM_E_NET_PING',
    message: '10.5.0.4: nobody',
    hint: 'Look.',
    cause: { message: 'why' },
  });
  t.same(await client.stats(), SAMPLE_STATS, 'the connection goes on');

  const full = Object.assign(new Error('no space left'), { code: 'ENOSPC', errno: -28, syscall: 'write' });
  control.onPing = async () => {
    throw new YavmError('YAVM_E_NET_CAPTURE', 'full', { cause: full });
  };
  await t.rejects(client.ping('10.5.0.4', 100), {
    code: 'YAVM_E_NET_CAPTURE',
    cause: { code: 'ENOSPC', syscall: 'write' },
  });
});

t.test('a capture ends with its client, and there is one at a time', async (t) => {
  const { control, open } = await serve(t);
  const [one, two] = [await open(), await open()];
  await t.rejects(one.capture('/tmp/refused'), { code: 'YAVM_E_NET_CAPTURE', hint: 'Elsewhere.' });
  await one.capture('net.pcapng');
  t.same(control.captures, [join(process.cwd(), 'net.pcapng')], 'relative to the client');
  await t.rejects(two.capture('/tmp/b'), { code: 'YAVM_E_NET_CAPTURE', message: /captured already/ });
  await two.capture(null);
  t.equal(control.captures.length, 1, 'nobody ends that of another');
  one.close();
  await until(() => control.captures.length === 2);
  t.equal(control.captures[1], null);
  await two.capture('/tmp/b');
  await two.capture(null);
  t.same(control.captures.slice(2), ['/tmp/b', null]);
});

t.test('a client that leaves while its capture is begun leaves none', async (t) => {
  const { control, open } = await serve(t);
  const gate = deferred<void>();
  control.gate = gate.promise;
  const client = await open();
  const begun = client.capture('/tmp/a');
  begun.catch(() => {});
  // The request is at the other side when another one is answered.
  await client.stats();
  client.close();
  await t.rejects(begun, { code: 'YAVM_E_NET_CONTROL' });
  gate.resolve();
  await until(() => control.captures.length === 2);
  t.same(control.captures, ['/tmp/a', null]);
});

t.test('the end of the server ends captures and clients', async (t) => {
  const { control, server, open, path } = await serve(t);
  const client = await open();
  await client.capture('/tmp/a');
  control.onPing = () => new Promise(() => {});
  const waiting = client.ping('10.5.0.3', 1000);
  waiting.catch(() => {});
  await client.stats();
  await server.close();
  t.same(control.captures, ['/tmp/a', null]);
  await t.rejects(waiting, { code: 'YAVM_E_NET_CONTROL', message: /has ended/ });
  await client.ended;
  await t.rejects(client.stats(), { code: 'YAVM_E_NET_CONTROL' });
  await t.rejects(connectNetworkControl(path), { code: 'YAVM_E_NET_CONTROL', hint: /none/ });
});

t.test('requests that make no sense are refused, and their client can go on', async (t) => {
  const { path, control } = await serve(t);
  const bad = [
    { op: 'reboot' },
    {},
    { op: 'ping' },
    { op: 'ping', address: '', milliseconds: 5 },
    { op: 'ping', address: 'x'.repeat(65), milliseconds: 5 },
    { op: 'ping', address: '10.0.0.1', milliseconds: 0 },
    { op: 'ping', address: '10.0.0.1', milliseconds: 60_001 },
    { op: 'ping', address: '10.0.0.1', milliseconds: 1.5 },
    { op: 'capture' },
    { op: 'capture', file: 'relative' },
    { op: 'capture', file: '/a\0b' },
    { op: 'capture', file: `/${'x'.repeat(4096)}` },
  ];
  const text = bad.map((body, index) => `${JSON.stringify({ id: index + 1, ...body })}\n`).join('');
  const answers = await raw(path, `${text}{"id":99,"op":"stats"}\n`, bad.length + 1);
  for (const index of bad.keys()) {
    t.match(
      answers[index],
      { id: index + 1, error: { code: 'YAVM_E_NET_CONTROL' } },
      JSON.stringify(bad[index]),
    );
  }
  t.match(answers.at(-1), { id: 99, ok: {} });
  t.same([control.pings, control.captures], [[], []]);
});

for (const [what, text] of [
  ['no JSON', 'hello\n'],
  ['nothing', '\n'],
  ['no map', '5\n'],
  ['null', 'null\n'],
  ['a list', '[]\n'],
  ['no id', '{"op":"stats"}\n'],
  ['an id that is none', '{"op":"stats","id":"x"}\n'],
  ['a line without an end', 'x'.repeat(17 * 1024)],
  ['bytes', Uint8Array.of(255, 254, 10)],
] as const) {
  t.test(`${what}: the connection ends, others go on`, async (t) => {
    const { path, open } = await serve(t);
    t.same(await raw(path, text), []);
    t.same(await (await open()).stats(), SAMPLE_STATS);
  });
}

t.test('requests of one client, and clients, have a bound', async (t) => {
  const { path, control } = await serve(t);
  control.onPing = () => new Promise(() => {});
  const ping = (id: number) => encodeLine({ id, op: 'ping', address: '10.0.0.1', milliseconds: 1000 });
  const many = Array.from({ length: 65 }, (_, index) => ping(index + 1)).join('');
  t.match(await raw(path, many, 1), [{ id: 65, error: { message: /more than 64/ } }]);

  const sockets: Socket[] = [];
  t.teardown(() => sockets.forEach((socket) => void socket.destroy()));
  let refused = 0;
  for (let count = 0; count < 20; count++) {
    const socket = connect({ path });
    socket.on('error', () => {});
    socket.on('close', () => refused++);
    sockets.push(socket);
  }
  await until(() => refused === 4);
  t.equal(refused, 4, 'sixteen stay');
});

t.test('an answer that makes no sense is an error, never a value', async (t) => {
  const path = socketPath(t);
  let answer = '';
  const server = createServer((socket) => {
    socket.on('data', () => void socket.write(answer));
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => server.close());
  for (const ok of [
    null,
    5,
    {},
    { vpn: null },
    { vpn: {}, outbound: null },
    withPeer({ kind: 'friend' }),
    withPeer({ framesIn: -1 }),
  ]) {
    const client = await connectNetworkControl(path);
    answer = `${JSON.stringify({ id: 1, ok })}\n`;
    await t.rejects(client.stats(), { code: 'YAVM_E_NET_CONTROL' }, JSON.stringify(ok)?.slice(0, 60));
    client.close();
  }
  for (const text of ['{"id":"x"}\n', 'what\n', '[]\n']) {
    const client = await connectNetworkControl(path);
    answer = text;
    await t.rejects(client.stats(), { code: 'YAVM_E_NET_CONTROL' }, text);
    await client.ended;
  }
  const client = await connectNetworkControl(path);
  t.teardown(() => client.close());
  answer = `{"id":7,"ok":{}}\n${JSON.stringify({ id: 1, ok: SAMPLE_STATS })}\n`;
  t.same(await client.stats(), SAMPLE_STATS, 'an answer to nothing is passed over');

  function withPeer(change: object): unknown {
    const stats = structuredClone(SAMPLE_STATS);
    Object.assign(stats.vpn!.networks[0]!.peers[0]!, change);
    return stats;
  }
});

t.test('lines come together from pieces of any size', async (t) => {
  const text = Buffer.from('{"a":"ä"}\n{"b":[1,2]}\n"c"\n');
  for (let size = 1; size <= text.length; size++) {
    const got: unknown[] = [];
    const lines = new Lines(20, (value) => got.push(value));
    for (let at = 0; at < text.length; at += size) lines.push(text.subarray(at, at + size));
    t.same(got, [{ a: 'ä' }, { b: [1, 2] }, 'c'], `${size}`);
  }
  t.throws(() => new Lines(20, () => {}).push(Buffer.alloc(21, 0x20)), /more than 20/);
});

t.test('where nobody can listen', async (t) => {
  const path = join(socketPath(t), 'none', 'network.sock');
  await t.rejects(serveNetworkControl(new FakeControl(), path, silentLogger), { code: 'YAVM_E_NET_CONTROL' });
});
