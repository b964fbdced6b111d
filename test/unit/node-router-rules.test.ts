/** What the embedded router alone promises: times by its clock, permissions, bounds, what it tells. */
import { once } from 'node:events';
import { existsSync, linkSync, mkdirSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { formatGsbUrl } from '../../host/gsb/address.ts';
import { encodePacket, type Packet } from '../../host/gsb/packet.ts';
import type { GsbAddress } from '../../host/gsb/types.ts';
import { GsbRouter, type RouterEvent, type RouterOptions } from '../../host/node/router.ts';
import { Routes, Topics } from '../../host/node/routes.ts';
import { callRequest, hello, RawPeer, randomInstance, socketFolder } from '../lib/gsb-peer.ts';
import { ManualClock } from '../lib/manual-clock.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

interface Started {
  router: GsbRouter;
  address: GsbAddress;
  clock: ManualClock;
  events: RouterEvent[];
}

async function start(t: Test, options: RouterOptions = {}): Promise<Started> {
  const clock = new ManualClock();
  const events: RouterEvent[] = [];
  const router = new GsbRouter({ clock, report: (event) => events.push(event), ...options });
  t.teardown(() => router.close());
  const address = await router.listen({ kind: 'unix', path: join(socketFolder(t), 'gsb.sock') });
  return { router, address, clock, events };
}

/** Lets what was sent over Unix sockets arrive. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}

async function until(done: () => boolean): Promise<void> {
  const last = performance.now() + 60_000;
  while (!done()) {
    if (performance.now() > last) throw new Error('it does not come about');
    await setImmediate();
  }
}

/** Lets time pass while these peers are heard. */
async function passHeard(clock: ManualClock, seconds: number, peers: readonly RawPeer[]): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    if (second % 4 === 0) for (const peer of peers) peer.send({ kind: 'pong' });
    await settle();
    clock.pass(1000);
  }
}

/** A socket that nobody listens at any more, as a killed process leaves it. */
async function leaveDeadSocket(path: string): Promise<void> {
  const server = createServer().listen(`${path}.living`);
  await once(server, 'listening');
  linkSync(`${path}.living`, path);
  await new Promise((resolve) => server.close(resolve));
}

t.test("a daemon's times: looks each 10 s, Ping after 5 s of silence, the end after 20 s", async (t) => {
  const { address, clock, events } = await start(t);
  const peer = await RawPeer.connect(t, address);
  await peer.nothingMore();
  clock.pass(10_000);
  await peer.next('ping');
  peer.send({ kind: 'pong' });
  await peer.nothingMore();
  clock.pass(6000);
  await peer.nothingMore();
  clock.pass(4000);
  await peer.nothingMore();
  t.pass('no Ping 4 s after it was heard');
  clock.pass(10_000);
  await peer.next('ping');
  clock.pass(10_000);
  await peer.next('ping');
  t.equal(peer.socket.destroyed, false, 'exactly 20 s is not too long');
  clock.pass(10_000);
  await peer.closed;
  t.match(events.at(-1), { kind: 'disconnected', peer: 1, reason: /nothing heard of it for 30000 ms/ });
});

t.test('who waits for a destination is not taken for silent, and is told after 60 s', async (t) => {
  const { address, clock } = await start(t);
  const [service, caller] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
  await service.register('/s');
  service.socket.pause();
  const calls = Array.from({ length: 40 }, () => callRequest('/s', Buffer.alloc(1024 * 1024)));
  caller.send(...calls);
  await until(() => clock.pending > 1);
  await passHeard(clock, 59, [service]);
  t.same(caller.waiting, [], 'no answer, no Ping, no end');
  clock.pass(1000);
  const reply = await caller.next('callReply');
  t.match([reply.code, Buffer.from(reply.data).toString()], [500, 'stalled connection']);

  service.socket.resume();
  const came: string[] = [];
  while (came.at(-1) !== calls.at(-1)?.requestId) came.push((await service.next('callRequest')).requestId);
  t.equal(came.length, calls.length - 1, 'all but that one');
  t.notOk(came.includes(reply.requestId));
});

t.test('a caller that does not read its answers loses its connection, and its service goes on', async (t) => {
  const { address, clock, events } = await start(t);
  const [service, caller, other] = [
    await RawPeer.connect(t, address),
    await RawPeer.connect(t, address),
    await RawPeer.connect(t, address),
  ];
  await service.register('/s');
  const request = caller.call('/s');
  await service.next('callRequest');
  caller.socket.pause();
  const piece = Buffer.alloc(1024 * 1024);
  for (let index = 0; index < 40; index++) service.reply(request, piece, { replyType: 'partial' });
  await until(() => clock.pending > 1);
  await passHeard(clock, 60, [caller, other]);
  const next = other.call('/s/after');
  t.equal((await service.next('callRequest')).requestId, next, 'its later messages are handled');
  t.match(events.at(-1), { kind: 'disconnected', peer: 2, reason: 'it did not read its answers' });
});

t.test('a message without reply for one that does not read is dropped after the time', async (t) => {
  const { address, clock } = await start(t);
  const [service, sender] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
  await service.register('/s');
  service.socket.pause();
  for (let index = 0; index < 40; index++) {
    sender.call('/s/raw', Buffer.alloc(1024 * 1024), { noReply: true });
  }
  await until(() => clock.pending > 1);
  await passHeard(clock, 61, [service]);
  service.socket.resume();
  for (let index = 0; index < 39; index++) await service.next('callRequest');
  await sender.nothingMore();
  await service.nothingMore();
  t.pass('one is gone, the others came');
});

t.test('a service that goes while it is being handed a call: 500', async (t) => {
  const { address, clock } = await start(t);
  const [service, caller] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
  await service.register('/s');
  service.socket.pause();
  const calls = Array.from({ length: 40 }, () => callRequest('/s', Buffer.alloc(1024 * 1024)));
  caller.send(...calls);
  await until(() => clock.pending > 1);
  service.socket.destroy();
  const reply = await caller.next('callReply');
  t.match([reply.code, Buffer.from(reply.data).toString()], [500, 'lost connection']);
  const after = await caller.next('callReply');
  t.match([after.code, Buffer.from(after.data).toString()], [400, 'endpoint address not found']);
});

t.test('bounds: names, their length, topics, open calls', async (t) => {
  const { address } = await start(t);
  const [service, caller] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
  t.equal(await service.register('x'.repeat(4097)), 400);
  t.equal(await service.register('/s'), 0);
  const names = Array.from({ length: 4095 }, (_, index) => `/n/${index}`);
  service.send(...names.map((serviceId) => ({ kind: 'registerRequest', serviceId }) as const));
  for (const _ of names) await service.next('registerReply');
  t.equal(await service.register('/one/more'), 400);
  const topics = Array.from({ length: 4097 }, (_, index) => `topic ${index}`);
  service.send(...topics.map((topic) => ({ kind: 'subscribeRequest', topic }) as const));
  const codes: number[] = [];
  for (const _ of topics) codes.push((await service.next('subscribeReply')).code);
  t.equal(codes.indexOf(400), 4096);

  const open = 16_384;
  for (let sent = 0; sent < open; sent += 1024) {
    caller.send(...Array.from({ length: 1024 }, () => callRequest('/s', '')));
    for (let index = 0; index < 1024; index++) await service.next('callRequest');
  }
  const refused = await caller.replyTo(caller.call('/s'));
  t.match(refused, { code: 500, text: 'too many calls are open' });
  const other = await RawPeer.connect(t, address);
  caller.socket.end();
  await caller.closed;
  const request = other.call('/s');
  t.equal((await service.next('callRequest')).requestId, request, 'calls of one that is gone do not count');
});

t.test('too many connections: one more is closed', async (t) => {
  const { address } = await start(t);
  const peers: RawPeer[] = [];
  for (let index = 0; index < 256; index++) peers.push(await RawPeer.connect(t, address));
  await (await RawPeer.silent(t, address)).closed;
  peers[0]?.socket.destroy();
  await peers[1]?.nothingMore();
  await RawPeer.connect(t, address);
  t.pass('a place is free again');
});

t.test('a packet that only a router sends ends the connection', async (t) => {
  const { address, events } = await start(t);
  const packets: Packet[] = [
    { kind: 'registerReply', code: 0, message: '' },
    { kind: 'unregisterReply', code: 0 },
    { kind: 'subscribeReply', code: 0, message: '' },
    { kind: 'broadcastReply', code: 0, message: '' },
  ];
  for (const packet of packets) {
    const peer = await RawPeer.connect(t, address);
    peer.send(packet);
    await peer.closed;
    t.match(events.at(-1), { kind: 'disconnected', reason: new RegExp(packet.kind) });
  }
});

t.test('it tells of connections and names', async (t) => {
  const { address, events } = await start(t);
  const [one, two] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
  await one.register('/a');
  await two.register('/a');
  await one.register('/b');
  one.send({ kind: 'unregisterRequest', serviceId: '/b' });
  await one.next('unregisterReply');
  one.socket.end();
  await one.closed;
  await until(() => events.at(-1)?.kind === 'disconnected');
  t.same(events, [
    { kind: 'connected', peer: 1 },
    { kind: 'hello', peer: 1, name: 'test', version: '0' },
    { kind: 'connected', peer: 2 },
    { kind: 'hello', peer: 2, name: 'test', version: '0' },
    { kind: 'registered', peer: 1, address: '/a' },
    { kind: 'refused', peer: 2, address: '/a' },
    { kind: 'registered', peer: 1, address: '/b' },
    { kind: 'unregistered', peer: 1, address: '/b' },
    { kind: 'disconnected', peer: 1, reason: 'it closed the connection', released: ['/a'] },
  ]);
});

t.test('the socket is private, a dead one is replaced, a living one is not', async (t) => {
  const folder = join(socketFolder(t), 'made');
  const address: GsbAddress = { kind: 'unix', path: join(folder, 'gsb.sock') };
  const first = new GsbRouter();
  await first.listen(address);
  t.equal(statSync(address.path).mode & 0o777, 0o600);
  t.equal(statSync(folder).mode & 0o777, 0o700);
  const second = new GsbRouter();
  await t.rejects(second.listen(address), { code: 'YAVM_E_NODE_LISTEN', hint: /Another node/ });
  await first.close();
  t.equal(existsSync(address.path), false, 'removed at the end');

  await leaveDeadSocket(address.path);
  t.equal(existsSync(address.path), true);
  await second.listen(address);
  await RawPeer.connect(t, address);
  await second.close();
  t.pass('a dead one is replaced');
});

t.test('where it cannot listen it says why', async (t) => {
  const folder = socketFolder(t);
  const router = new GsbRouter();
  t.teardown(() => router.close());
  const listen = (address: GsbAddress) => router.listen(address);
  await t.rejects(listen({ kind: 'unix', path: `${folder}/${'x'.repeat(120)}` }), {
    code: 'YAVM_E_NODE_LISTEN',
    hint: /107 bytes/,
  });
  mkdirSync(join(folder, 'folder'));
  await t.rejects(listen({ kind: 'unix', path: join(folder, 'folder') }), { code: 'YAVM_E_NODE_LISTEN' });
  t.equal(existsSync(join(folder, 'folder')), true, 'which is left alone');
  const server = createServer().listen(0, '127.0.0.1');
  t.teardown(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  await t.rejects(listen({ kind: 'tcp', host: '127.0.0.1', port }), { code: 'YAVM_E_NODE_LISTEN' });
  t.match(
    formatGsbUrl(await listen({ kind: 'tcp', host: '127.0.0.1', port: 0 })),
    /^tcp:\/\/127\.0\.0\.1:\d+$/,
  );
});

t.test('its end is the end of every connection', async (t) => {
  const { router, address, clock } = await start(t);
  const peers = [await RawPeer.connect(t, address), await RawPeer.silent(t, address)];
  await router.close();
  for (const peer of peers) await peer.closed;
  t.equal(clock.pending, 0, 'no timer is left');
  await router.close();
});

t.test('any bytes: the connection ends or goes on, and nobody else notices', async (t) => {
  const { address } = await start(t);
  const random = new Random(7);
  const witness = await RawPeer.connect(t, address);
  const valid = Buffer.concat(
    [
      hello(randomInstance()),
      { kind: 'registerRequest', serviceId: '/r' } as const,
      callRequest('/r/x', 'data'),
      { kind: 'ping' } as const,
    ].map(encodePacket),
  );
  for (let round = 0; round < count(2000); round++) {
    const peer = await RawPeer.silent(t, address);
    const bytes = round % 2 === 0 ? Buffer.from(valid) : Buffer.from(random.bytes(random.between(1, 400)));
    for (let flips = random.between(1, 7); flips > 0; flips--) {
      bytes[random.between(0, bytes.length)] = random.between(0, 256);
    }
    peer.socket.end(bytes);
    await peer.closed;
  }
  await witness.nothingMore();
  t.equal(await witness.register('/r'), 0, 'and no name is left behind');
});

t.test('the tables of names and topics', (t) => {
  const routes = new Routes<string>();
  for (const name of ['/a', '/a/b', 'x']) t.equal(routes.register(name, name), true);
  t.equal(routes.find('/a/b/c'), '/a/b');
  t.equal(routes.find('/a/bc'), '/a');
  t.equal(routes.find('x/y'), 'x');
  t.equal(routes.find('/'), undefined);
  t.equal(routes.find(`/a/${'y'.repeat(5000)}`), undefined, 'too long to be looked up');
  t.equal(routes.unregister('/a', 'somebody'), false);
  t.same([...routes.names], ['/a', '/a/b', 'x']);
  const topics = new Topics<string>();
  topics.subscribe('t', 'one');
  topics.subscribe('t', 'one');
  topics.subscribe('t', 'two');
  t.same([...topics.of('t')], ['one', 'two']);
  t.equal(topics.unsubscribe('t', 'three'), false);
  t.equal(topics.unsubscribe('t', 'one') && topics.unsubscribe('t', 'two'), true);
  t.equal(topics.unsubscribe('t', 'two'), false);
  t.same([...topics.of('t')], []);
  t.end();
});
