/**
 * What a GSB router does, as tests that the embedded one and the real one must pass alike (exe-unit.md section 1).
 * Nothing here knows which of them it talks to.
 */
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { encodePacket } from '../../host/gsb/packet.ts';
import type { GsbAddress } from '../../host/gsb/types.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import { callRequest, hello, RawPeer, randomInstance } from './gsb-peer.ts';

/** Milliseconds. */
export interface RouterTimes {
  pingInterval?: number;
  pingTimeout?: number;
  stalledAfter?: number;
}

/** Starts a router that ends with the test. */
export type StartRouter = (t: Test, times?: RouterTimes) => Promise<GsbAddress>;

/** Milliseconds for what a router does at once. */
const DEADLINE = 10_000;

interface Case {
  name: string;
  times?: RouterTimes;
  run(t: Test, address: GsbAddress): Promise<void>;
}

/** Runs all cases, each with a router of its own. */
export function routerSuite(t: Test, start: StartRouter): void {
  for (const { name, times, run } of CASES) t.test(name, async (t) => run(t, await start(t, times)));
}

/** Registers as soon as the name is free: a router takes its time to see that a peer is gone. */
async function registerOnceFree(peer: RawPeer, name: string): Promise<void> {
  const last = performance.now() + DEADLINE;
  while ((await peer.register(name)) !== 0) {
    if (performance.now() > last) throw new Error(`${name} does not get free`);
  }
}

const CASES: readonly Case[] = [
  {
    name: 'Hello: the router says it at once, without waiting for the peer',
    async run(t, address) {
      const peer = await RawPeer.silent(t, address);
      const said = await peer.next('hello');
      t.equal(said.instanceId.length, 16);
      t.ok(said.name.includes('router'), said.name);
    },
  },
  {
    name: 'Hello: a second one ends the connection',
    async run(t, address) {
      const peer = await RawPeer.connect(t, address);
      peer.send(hello(randomInstance()));
      await withDeadline(peer.closed, DEADLINE, 'the end');
      t.pass('closed');
    },
  },
  {
    name: 'Hello: requests may follow it in the same write, before any answer',
    async run(t, address) {
      const service = await RawPeer.connect(t, address);
      await service.register('/local/activity');
      const peer = await RawPeer.silent(t, address);
      const names = ['Exec', 'GetActivityState', 'GetActivityUsage'].map(
        (name) => `/public/exeunit/a/${name}`,
      );
      const call = callRequest('/local/activity/SetActivityState', 'state');
      peer.send(
        hello(randomInstance()),
        ...names.map((serviceId) => ({ kind: 'registerRequest', serviceId }) as const),
        call,
      );
      await peer.next('hello');
      for (const name of names) t.equal((await peer.next('registerReply')).code, 0, name);
      t.equal((await service.next('callRequest')).requestId, call.requestId);
    },
  },
  {
    name: 'Hello: the same instance again takes the place of its old connection, and gets its names',
    async run(t, address) {
      const instance = randomInstance();
      const old = await RawPeer.connect(t, address, instance);
      t.equal(await old.register('/public/a'), 0);
      const other = await RawPeer.connect(t, address);
      const fresh = await RawPeer.connect(t, address, instance);
      t.equal(await fresh.register('/public/a'), 0, 'free at once');
      await withDeadline(old.closed, DEADLINE, 'the end of the old connection');
      const request = other.call('/public/a/x', 'hi');
      t.equal((await fresh.next('callRequest')).requestId, request);
    },
  },
  {
    name: 'register: a name belongs to one; below it anybody may have names',
    async run(t, address) {
      const [one, two] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
      t.equal(await one.register('/public/a'), 0);
      two.send({ kind: 'registerRequest', serviceId: '/public/a' });
      t.match(await two.next('registerReply'), { code: 409, message: '' }, "another's");
      one.send({ kind: 'registerRequest', serviceId: '/public/a' });
      t.match(await one.next('registerReply'), { code: 409, message: '' }, 'its own');
      t.equal(await two.register('/public/a/b'), 0, 'below it');
      t.equal(await two.register('no-slash'), 0, 'any text');
    },
  },
  {
    name: "unregister: one's own name only, and then it is free",
    async run(t, address) {
      const [one, two] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
      const unregister = async (peer: RawPeer, serviceId: string) => {
        peer.send({ kind: 'unregisterRequest', serviceId });
        return (await peer.next('unregisterReply')).code;
      };
      await one.register('/public/a');
      t.equal(await unregister(two, '/public/a'), 404, "another's");
      t.equal(await unregister(two, '/public/b'), 404, "nobody's");
      t.equal(await unregister(one, '/public/a'), 0);
      t.equal(await unregister(one, '/public/a'), 404, 'once');
      const reply = await two.replyTo(two.call('/public/a/x'));
      t.match(reply, { code: 400, text: 'endpoint address not found' });
      t.equal(await two.register('/public/a'), 0);
    },
  },
  {
    name: 'register: the names of a peer that is gone are free again',
    async run(t, address) {
      const [one, two] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
      for (const name of ['/public/a', '/public/b']) await one.register(name);
      one.socket.end();
      await registerOnceFree(two, '/public/a');
      await registerOnceFree(two, '/public/b');
      t.pass('registered');
    },
  },
  {
    name: 'calls go to the longest name that fits, by whole segments',
    async run(t, address) {
      const [short, long, caller] = [
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
      ];
      await short.register('/a');
      await long.register('/a/b');
      await short.register('word');
      for (const [target, peer] of [
        ['/a', short],
        ['/a/x', short],
        ['/a/bc', short],
        ['/a/b', long],
        ['/a/b/c/d', long],
        ['/a/b/', long],
        ['word/Message', short],
      ] as const) {
        const request = caller.call(target);
        t.match(await peer.next('callRequest'), { requestId: request, address: target }, target);
      }
      for (const target of ['/ab', '/', '', 'wordy', '/word']) {
        t.match(await caller.replyTo(caller.call(target)), { code: 400 }, `'${target}' is nobody's`);
      }
    },
  },
  {
    name: 'a call arrives as it was sent, and so do its answers',
    async run(t, address) {
      const [service, caller] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
      await service.register('/public/a');
      const data = randomBytes(300);
      const node = `0x${'ab'.repeat(20)}`;
      const request = caller.call('/public/a/Exec', data, { caller: node });
      const came = await service.next('callRequest');
      t.match(came, { caller: node, address: '/public/a/Exec', requestId: request, noReply: false });
      t.same(Buffer.from(came.data), data);
      service.reply(request, 'one', { replyType: 'partial' });
      service.reply(request, 'two', { replyType: 'partial' });
      service.reply(request, '');
      service.reply(request, 'too late');
      for (const [text, replyType] of [
        ['one', 'partial'],
        ['two', 'partial'],
        ['', 'full'],
      ]) {
        t.match(await caller.replyTo(request), { code: 0, replyType, text });
      }
      await caller.nothingMore();
      const failing = caller.call('/public/a/Fail');
      await service.next('callRequest');
      service.reply(failing, 'text of an error', { code: 500 });
      t.match(await caller.replyTo(failing), { code: 500, replyType: 'full', text: 'text of an error' });
    },
  },
  {
    name: 'answers find their caller by the request id, in any order',
    async run(t, address) {
      const [service, one, two] = [
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
      ];
      await service.register('/s');
      const first = one.call('/s');
      t.equal((await service.next('callRequest')).requestId, first);
      const second = two.call('/s');
      t.equal((await service.next('callRequest')).requestId, second);
      service.reply(second, 'for two');
      service.reply('nobody asked this', 'x');
      service.reply(first, 'for one');
      t.equal((await one.replyTo(first)).text, 'for one');
      t.equal((await two.replyTo(second)).text, 'for two');
    },
  },
  {
    name: 'the same request id twice: the later caller gets the first answer, the earlier one nothing',
    async run(t, address) {
      const [service, one, two] = [
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
      ];
      await service.register('/s');
      one.call('/s', '1', { requestId: 'same' });
      await service.next('callRequest');
      two.call('/s', '2', { requestId: 'same' });
      await service.next('callRequest');
      service.reply('same', 'first');
      service.reply('same', 'second');
      t.equal((await two.replyTo('same')).text, 'first');
      await one.nothingMore();
      await two.nothingMore();
      t.pass('nothing else came');
    },
  },
  {
    name: 'calls that want no reply: delivered, and dropped in silence where nobody is',
    async run(t, address) {
      const [service, caller] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
      await service.register('/s');
      caller.call('/nobody', 'lost', { noReply: true });
      const request = caller.call('/s/raw', 'frame', { noReply: true });
      t.match(await service.next('callRequest'), { requestId: request, noReply: true });
      await caller.nothingMore();
    },
  },
  {
    name: 'a service that goes after it got a call leaves its caller without answer',
    async run(t, address) {
      const [service, caller, witness] = [
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
      ];
      await service.register('/s');
      caller.call('/s');
      await service.next('callRequest');
      service.socket.end();
      await registerOnceFree(witness, '/s');
      await caller.nothingMore();
      t.pass('no answer, and the connection lives');
    },
  },
  {
    name: 'a caller that goes before its answer harms nobody',
    async run(t, address) {
      const [service, caller, witness] = [
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
      ];
      await service.register('/s');
      await caller.register('/c');
      const request = caller.call('/s');
      await service.next('callRequest');
      caller.socket.end();
      await registerOnceFree(witness, '/c');
      service.reply(request, 'x', { replyType: 'partial' });
      service.reply(request, '');
      await service.nothingMore();
      t.pass('the service lives');
    },
  },
  {
    name: 'topics: every subscriber hears a broadcast, once, until it has enough',
    async run(t, address) {
      const [one, two, sender] = [
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
      ];
      const unsubscribe = async (peer: RawPeer) => {
        peer.send({ kind: 'unsubscribeRequest', topic: 'news' });
        return (await peer.next('unsubscribeReply')).code;
      };
      t.equal(await unsubscribe(one), 404, 'it had not subscribed');
      for (const peer of [one, two, two]) {
        peer.send({ kind: 'subscribeRequest', topic: 'news' });
        t.equal((await peer.next('subscribeReply')).code, 0);
      }
      const broadcast = async (text: string) => {
        sender.send({ kind: 'broadcastRequest', caller: 'me', topic: 'news', data: Buffer.from(text) });
        t.equal((await sender.next('broadcastReply')).code, 0);
      };
      await broadcast('first');
      for (const peer of [one, two]) {
        const heard = await peer.next('broadcastRequest');
        t.match(heard, { caller: 'me', topic: 'news' });
        t.equal(Buffer.from(heard.data).toString(), 'first');
        await peer.nothingMore();
      }
      t.equal(await unsubscribe(one), 0);
      await broadcast('second');
      await two.next('broadcastRequest');
      await one.nothingMore();
      sender.send({ kind: 'broadcastRequest', caller: 'me', topic: 'nobody', data: new Uint8Array(1) });
      t.equal((await sender.next('broadcastReply')).code, 0, 'without subscribers too');
    },
  },
  {
    name: 'Ping is answered with Ping, Pong with nothing',
    async run(t, address) {
      const peer = await RawPeer.connect(t, address);
      peer.send({ kind: 'ping' });
      t.match(await peer.next('ping'), { kind: 'ping' });
      peer.send({ kind: 'pong' });
      await peer.nothingMore();
    },
  },
  {
    name: 'a silent peer is pinged, and one that answers lives on',
    times: { pingInterval: 100, pingTimeout: 60_000 },
    async run(t, address) {
      const peer = await RawPeer.connect(t, address);
      for (let round = 0; round < 3; round++) {
        await peer.next('ping');
        peer.send({ kind: 'pong' });
      }
      t.pass('three times');
    },
  },
  {
    name: 'a peer that stays silent is closed',
    times: { pingInterval: 100, pingTimeout: 400 },
    async run(t, address) {
      const peer = await RawPeer.connect(t, address);
      await peer.next('ping');
      await withDeadline(peer.closed, DEADLINE, 'the end');
      t.pass('closed');
    },
  },
  {
    name: 'a packet of no known kind ends its connection, and no other',
    async run(t, address) {
      const witness = await RawPeer.connect(t, address);
      for (const [what, frame] of [
        ['an unknown member', '00000003 aa0600'],
        ['an empty packet', '00000000'],
        ['no protobuf', '00000004 ffffffff'],
      ] as const) {
        const peer = await RawPeer.connect(t, address);
        peer.socket.write(Buffer.from(frame.replaceAll(' ', ''), 'hex'));
        await withDeadline(peer.closed, DEADLINE, `the end after ${what}`);
        t.pass(what);
      }
      await witness.nothingMore();
    },
  },
  {
    name: 'frames may come byte by byte, or many at once',
    async run(t, address) {
      const [service, caller] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
      await service.register('/s');
      const call = callRequest('/s/slow', 'x'.repeat(40));
      for (const byte of encodePacket(call)) {
        await new Promise((resolve) => caller.socket.write(Uint8Array.of(byte), resolve));
      }
      t.equal((await service.next('callRequest')).requestId, call.requestId);
      const calls = Array.from({ length: 300 }, (_, index) => callRequest('/s/many', String(index)));
      caller.send(...calls);
      const came: string[] = [];
      for (const _ of calls) came.push((await service.next('callRequest')).requestId);
      t.same(
        came,
        calls.map(({ requestId }) => requestId),
        'in order',
      );
    },
  },
  {
    name: 'megabytes pass both ways, whole',
    async run(t, address) {
      const [service, caller] = [await RawPeer.connect(t, address), await RawPeer.connect(t, address)];
      await service.register('/s');
      const data = randomBytes(6 * 1024 * 1024);
      const request = caller.call('/s', data);
      t.ok(data.equals((await service.next('callRequest')).data), 'there');
      service.reply(request, data);
      t.ok(data.equals((await caller.replyTo(request)).data), 'and back');
    },
  },
  {
    name: 'a service that does not read holds its callers back, who are then told',
    times: { stalledAfter: 300 },
    async run(t, address) {
      const [service, caller, other] = [
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
        await RawPeer.connect(t, address),
      ];
      await service.register('/s');
      service.socket.pause();
      const calls = Array.from({ length: 40 }, () => callRequest('/s', Buffer.alloc(1024 * 1024)));
      for (const call of calls) caller.send(call);
      const reply = await caller.next('callReply');
      t.match(reply, { code: 500, replyType: 'full' });
      t.equal(Buffer.from(reply.data).toString(), 'stalled connection');
      t.ok(calls.some(({ requestId }) => requestId === reply.requestId));
      await other.nothingMore();
      t.pass('nobody else is held back');
    },
  },
];
