/** Cases of the router's suite (router-suite.ts): Hello, names, topics. */
import { withDeadline } from '../../host/lib/deadline.ts';
import { callRequest, DEADLINE, hello, RawPeer, randomInstance } from './gsb-peer.ts';
import type { Case } from './router-suite.ts';

export const NAME_CASES: readonly Case[] = [
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
      await two.registerOnceFree('/public/a');
      await two.registerOnceFree('/public/b');
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
];
