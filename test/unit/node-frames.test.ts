/** Calls without answers, most of which are frames, through the router: `host/node/frame-routes.ts`. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t, { type Test } from 'tap';
import { connectGsb, encodePacket, type Packet } from '../../host/gsb/index.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { GsbRouter, LocalNetwork } from '../../host/node/index.ts';
import { callRequest, RawPeer, socketFolder } from '../lib/gsb-peer.ts';
import { Random } from '../lib/random.ts';
import { bytes, count } from '../lib/scale.ts';

const [A, B] = [`0x${'a'.repeat(40)}`, `0x${'b'.repeat(40)}`];

async function pair(t: Test) {
  const network = new LocalNetwork();
  const start = async (nodeId: string) => {
    const router = new GsbRouter({ network, nodeId });
    t.teardown(() => router.close());
    const address = await router.listen({ kind: 'unix', path: join(socketFolder(t), 'gsb.sock') });
    return { router, address, peer: () => RawPeer.connect(t, address) };
  };
  return { a: await start(A as string), b: await start(B as string) };
}

/** Bytes of buffers that somebody still holds: garbage is collected first. */
function heldBuffers(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  return process.memoryUsage().arrayBuffers;
}

const text = (packet: { data: Uint8Array }) => Buffer.from(packet.data).toString();
const quiet = (address: string, data: string | Uint8Array, fields: object = {}) =>
  callRequest(address, data, { noReply: true, ...fields });

t.test(
  'they arrive whole and in order among all calls, however they are cut; only caller and address change',
  async (t) => {
    const { a, b } = await pair(t);
    const [caller, service] = [await a.peer(), await b.peer()];
    await service.register('/public/s');
    const random = new Random();
    t.comment(`seed ${random.seed}`);
    const calls = Array.from({ length: count(4000) }, (_, index) => {
      const way = random.pick(['/udp/net', '/udp/net', '/net', '/transfer/net']);
      const data = `${index} ${'x'.repeat(random.between(0, random.chance(10) ? 66_000 : 1300))}`;
      return callRequest(`${way}/${B}/s/raw`, data, {
        noReply: !random.chance(8),
        caller: random.pick(['local', A as string, '', '0xother']),
      });
    });
    const stream = Buffer.concat(calls.map(encodePacket));
    const sending = (async () => {
      for (let at = 0; at < stream.length; ) {
        const size = random.between(1, random.chance(5) ? 60 : 100_000);
        await new Promise((resolve) => caller.socket.write(stream.subarray(at, at + size), resolve));
        at += size;
      }
    })();
    for (const { noReply, data, requestId } of calls) {
      const came = await service.next('callRequest');
      if (text(came) !== text({ data }))
        return t.fail(`${text(came).slice(0, 20)} instead of ${text({ data }).slice(0, 20)}`);
      const { caller, address } = came;
      if (caller !== A || address !== '/public/s/raw') return t.fail(`${caller} at ${address}`);
      if (came.noReply !== noReply || came.requestId !== requestId) return t.fail('another request');
    }
    await sending;
    t.pass(`${calls.length} calls`);
  },
);

t.test('on their own node they are passed on as they are', async (t) => {
  const { a } = await pair(t);
  const [caller, service] = [await a.peer(), await a.peer()];
  await service.register('/public/s');
  const sent: Packet[] = [];
  for (const size of [0, 1, 127, 128, 20_000, 300_000]) {
    sent.push(quiet('/public/s/raw', Buffer.alloc(size, 'x'), { caller: '0xsomebody' }));
  }
  caller.send(...sent);
  for (const packet of sent) t.same(encodePacket(await service.next('callRequest')), encodePacket(packet));
  // The node's own public names over the network: from the node, when it was a local caller.
  caller.send(quiet(`/udp/net/${A}/s`, '1'), quiet(`/udp/net/${A}/s`, '2', { caller: '0xsomebody' }));
  t.match(await service.next('callRequest'), { caller: A, address: '/public/s' });
  t.match(await service.next('callRequest'), { caller: '0xsomebody', address: '/public/s' });
});

t.test('names and nodes that come and go count at once', async (t) => {
  const { a, b } = await pair(t);
  const [caller, first, second] = [await a.peer(), await b.peer(), await b.peer()];
  const send = async (data: string) => {
    caller.send(quiet(`/udp/net/${B}/vpn/n/raw`, data));
    await caller.nothingMore();
  };
  await send('nobody');
  await first.register('/public/vpn');
  await send('first');
  t.equal(text(await first.next('callRequest')), 'first');
  await second.register('/public/vpn/n/raw');
  await send('second');
  t.equal(text(await second.next('callRequest')), 'second');
  second.send({ kind: 'unregisterRequest', serviceId: '/public/vpn/n/raw' });
  await second.next('unregisterReply');
  await send('first again');
  t.equal(text(await first.next('callRequest')), 'first again');
  first.socket.end();
  await second.registerOnceFree('/public/vpn');
  await send('second again');
  t.equal(text(await second.next('callRequest')), 'second again');
  await b.router.close();
  await send('lost');
  await second.closed;
  t.same(second.waiting, []);
});

t.test('who sends what is no text is cut off, and the receiver lives', async (t) => {
  const { a, b } = await pair(t);
  const [caller, service] = [await a.peer(), await b.peer()];
  await service.register('/public/s');
  const bad = Buffer.from(encodePacket(quiet(`/udp/net/${B}/s`, 'bad')));
  bad[bad.indexOf('/s"') < 0 ? bad.indexOf(B as string) : bad.indexOf('/s')] = 0xff;
  caller.socket.write(Buffer.concat([encodePacket(quiet(`/udp/net/${B}/s`, 'good')), bad]));
  await caller.closed;
  t.equal(text(await service.next('callRequest')), 'good');
  await service.nothingMore();
});

t.test('a peer that does not read costs a bounded memory, and frames that come later arrive', async (t) => {
  const { a, b } = await pair(t);
  const [caller, service] = [await a.peer(), await b.peer()];
  await service.register('/public/s');
  service.socket.pause();
  const frame = encodePacket(quiet(`/udp/net/${B}/s`, Buffer.alloc(1220)));
  const burst = Buffer.concat(Array.from({ length: 500 }, () => frame));
  const before = heldBuffers();
  for (let sent = 0; sent < bytes(1024 ** 3); sent += burst.length) {
    await new Promise((resolve) => caller.socket.write(burst, resolve));
  }
  await caller.nothingMore();
  const held = heldBuffers() - before;
  t.ok(held < 32 * 1024 * 1024, `${held} bytes are held`);
  service.socket.resume();
  const last = service.call('/nowhere');
  let frames = 0;
  while (service.waiting.at(-1)?.kind !== 'callReply') await setImmediate();
  while (service.waiting.length > 1) {
    await service.next('callRequest');
    frames++;
  }
  t.equal((await service.replyTo(last)).code, 400);
  t.ok(frames > 100 && frames < 5000, `${frames} frames waited`);
  caller.send(quiet(`/udp/net/${B}/s`, 'later'));
  t.equal(text(await service.next('callRequest')), 'later');
});

t.test('what is larger than a batch goes, too, as long as there is room', async (t) => {
  const { a, b } = await pair(t);
  const [caller, service] = [await a.peer(), await b.peer()];
  await service.register('/public/s');
  for (const size of [130_000, 300_000, 900_000]) {
    caller.send(quiet(`/udp/net/${B}/s`, Buffer.alloc(size)), quiet(`/udp/net/${B}/s`, 'after'));
    t.equal((await service.next('callRequest')).data.length, size);
    t.equal(text(await service.next('callRequest')), 'after');
  }
});

t.test('a sender that is closed while its call waits: what it sent behind it does not go', async (t) => {
  const { a, b } = await pair(t);
  const [caller, service, witness] = [await a.peer(), await b.peer(), await b.peer()];
  await service.register('/public/s');
  await witness.register('/public/w');
  service.socket.pause();
  const calls = Array.from({ length: 40 }, () => callRequest(`/net/${B}/s`, Buffer.alloc(1024 * 1024)));
  await new Promise((resolve) =>
    caller.socket.write(Buffer.concat(calls.slice(0, 5).map(encodePacket)), resolve),
  );
  caller.send(...calls, quiet(`/udp/net/${B}/w`, 'behind it'));
  await setImmediate();
  await a.router.close();
  service.socket.resume();
  await witness.nothingMore();
  t.pass('nothing came');
});

t.test('from a pusher of one node to a handler of another', async (t) => {
  const { a, b } = await pair(t);
  const [from, to] = [a, b].map(({ address }) => connectGsb({ address, logger: silentLogger }));
  if (!from || !to) throw new Error('two');
  t.teardown(() => Promise.all([from.close(), to.close()]));
  const [total, window] = [count(200_000), 200];
  const seen = { frames: 0, flushes: 0, wrong: 0 };
  let flushed = () => {};
  await to.bind('/public/vpn/n/raw', {
    frames: {
      frame: (data, offset, length, caller, address) => {
        const number = Buffer.from(data.buffer, data.byteOffset + offset, length).readUInt32BE(0);
        const isRight = length === 4 + (number % 1217) && caller === A && address === '/public/vpn/n/raw';
        if (number !== seen.frames++ || !isRight) seen.wrong++;
      },
      flush: () => {
        seen.flushes++;
        flushed();
      },
    },
  });
  await from.bind('/up', { unary: () => null });
  const pusher = from.pusher(`/udp/net/${B}/vpn/n/raw`, A as string);
  const data = Buffer.alloc(1220);
  for (let sent = 0; sent < total; ) {
    while (sent < total && sent - seen.frames < window) {
      data.writeUInt32BE(sent, 0);
      if (!pusher.push(data, 0, 4 + (sent % 1217))) t.fail('not taken');
      sent++;
    }
    from.flushFrames();
    const mark = Math.min(total, sent - window / 2);
    while (seen.frames < mark)
      await new Promise<void>((resolve) => {
        flushed = resolve;
      });
  }
  while (seen.frames < total)
    await new Promise<void>((resolve) => {
      flushed = resolve;
    });
  t.match(seen, { frames: total, wrong: 0 });
  t.ok(seen.flushes < total / 2, `${seen.flushes} flushes`);
});
