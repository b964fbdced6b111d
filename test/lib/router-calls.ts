/** Cases of the router's suite (router-suite.ts): calls, answers, Ping, bad and slow peers. */
import { randomBytes } from 'node:crypto';
import { encodePacket } from '../../host/gsb/packet.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import { callRequest, DEADLINE, RawPeer } from './gsb-peer.ts';
import type { Case } from './router-suite.ts';

export const CALL_CASES: readonly Case[] = [
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
      await witness.registerOnceFree('/s');
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
      await witness.registerOnceFree('/c');
      service.reply(request, 'x', { replyType: 'partial' });
      service.reply(request, '');
      await service.nothingMore();
      t.pass('the service lives');
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
