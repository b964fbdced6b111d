/** Raw frames over a connection: how they are handed over, sent and dropped. */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { openSocket } from '../../host/gsb/link.ts';
import { encodePacket } from '../../host/gsb/packet.ts';
import { sleep } from '../../host/lib/deadline.ts';
import type { YavmError } from '../../host/lib/errors.ts';
import { callRequest } from '../lib/gsb-peer.ts';
import { connectTo, type RouterConnection, startRouter } from '../lib/gsb-router.ts';

const NODE = `0x${'ab'.repeat(20)}`;
const ADDRESS = `/udp/net/${NODE}/vpn/net1/raw`;
const soon = { deadline: 60_000 };
const text = (data: Uint8Array) => Buffer.from(data).toString();

/** A handler that keeps what it gets. */
function collector() {
  const frames: { data: string; caller: string; address: string }[] = [];
  let flushes = 0;
  return {
    frames,
    flushes: () => flushes,
    handler: {
      frame: (data: Uint8Array, offset: number, length: number, caller: string, address: string) =>
        void frames.push({ data: text(data.subarray(offset, offset + length)), caller, address }),
      flush: () => void flushes++,
    },
  };
}

const push = (data: string, fields: object = {}) =>
  callRequest('/public/vpn/net1/raw', data, { caller: NODE, noReply: true, ...fields });

/** Sends bytes, and waits until all before were read: a Ping is answered. */
async function sendBytes(connection: RouterConnection, ...bytes: Uint8Array[]): Promise<void> {
  for (const piece of bytes) {
    connection.socket.write(piece);
    await setImmediate();
  }
  connection.send({ kind: 'ping' });
  await connection.take('pong');
}

t.test(
  'frames are handed over in the order of all packets; once a read it is said that this was all',
  async (t) => {
    const router = await startRouter(t);
    const gsb = connectTo(t, router);
    const { frames, flushes, handler } = collector();
    await gsb.bind('/public/vpn/net1/raw', { frames: handler });
    await gsb.bind('/public/vpn/net1/VpnControl', {
      unary: () => {
        frames.push({ data: 'control', caller: '', address: '' });
        return null;
      },
    });
    const connection = await router.connection();
    const control = callRequest('/public/vpn/net1/VpnControl', Buffer.from('000001', 'hex'));
    const together = [push('1'), push('2', { caller: 'local' }), control, push(''), push('4')].map(
      encodePacket,
    );
    await sendBytes(connection, Buffer.concat(together));
    t.same(
      frames.map(({ data }) => data),
      ['1', '2', 'control', '', '4'],
    );
    t.match(frames, [{ caller: NODE, address: '/public/vpn/net1/raw' }, { caller: 'local' }]);
    t.equal(flushes(), 1);
    t.match(await connection.take('callReply'), { requestId: control.requestId, code: 0 });

    frames.length = 0;
    const stream = Buffer.concat(
      Array.from({ length: 40 }, (_, index) => encodePacket(push(`frame ${index}`))),
    );
    const pieces = Array.from({ length: Math.ceil(stream.length / 97) }, (_, index) =>
      stream.subarray(97 * index, 97 * index + 97),
    );
    await sendBytes(connection, ...pieces);
    t.same(
      frames.map(({ data }) => data),
      Array.from({ length: 40 }, (_, index) => `frame ${index}`),
      'split ones too',
    );
  },
);

t.test(
  'one that wants an answer gets an empty one; large ones, and those written in another way, are taken',
  async (t) => {
    const router = await startRouter(t);
    const gsb = connectTo(t, router);
    const { frames, handler } = collector();
    await gsb.bind('/public/vpn', { frames: handler });
    const connection = await router.connection();
    connection.send(push('asked', { noReply: false, requestId: 'r1' }));
    t.match(await connection.take('callReply'), {
      requestId: 'r1',
      code: 0,
      replyType: 'full',
      data: { length: 0 },
    });
    connection.send(push('x'.repeat(300_000)));
    connection.send(push('no caller', { caller: '' }));
    connection.send(push('an id of theirs', { requestId: 'ü', noReply: false }));
    t.match(await connection.take('callReply'), { requestId: 'ü' });
    // no_reply before the address.
    const unusual = Buffer.concat([
      Buffer.from([0x32, 0]),
      Buffer.from([0x28, 1, 0x0a, 1, 0x61, 0x12, 11]),
      Buffer.from('/public/vpn'),
      Buffer.from([0x1a, 1, 0x69, 0x22, 2, 0x68, 0x69]),
    ]);
    unusual[1] = unusual.length - 2;
    await sendBytes(connection, Buffer.from([0, 0, 0, unusual.length]), unusual);
    t.same(
      frames.map(({ data }) => data.slice(0, 20)),
      ['asked', 'x'.repeat(20), 'no caller', 'an id of theirs', 'hi'],
    );
    t.match(frames.at(-1), { caller: 'a', address: '/public/vpn' });
  },
);

t.test('what a bus says before anybody listens is not lost', async (t) => {
  const router = await startRouter(t);
  const opened = openSocket(router.address, 10_000, new AbortController().signal);
  const connection = await router.connection();
  const source = await opened;
  t.teardown(() => void source.socket.destroy());
  const pieces = ['first ', 'second ', 'x'.repeat(300_000)];
  for (const piece of pieces) {
    connection.socket.write(piece);
    await sleep(20);
  }
  const arrived: string[] = [];
  const { length } = pieces.join('');
  await new Promise<void>((resolve) =>
    source.onRead((bytes, size) => {
      arrived.push(text(bytes.subarray(0, size)));
      if (arrived.join('').length >= length) resolve();
    }),
  );
  t.equal(arrived.join(''), pieces.join(''));
});

t.test('a name that comes or goes counts at once', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  const [short, long] = [collector(), collector()];
  await gsb.bind('/public/vpn', { frames: short.handler });
  const connection = await router.connection();
  const seen = async () => {
    await sendBytes(connection, encodePacket(push('x')));
    return [short.frames.length, long.frames.length];
  };
  t.same(await seen(), [1, 0]);
  await gsb.bind('/public/vpn/net1/raw', { frames: long.handler });
  t.same(await seen(), [1, 1]);
  await gsb.unbind('/public/vpn/net1/raw');
  t.same(await seen(), [2, 1]);
  await gsb.unbind('/public/vpn');
  t.same(await seen(), [2, 1]);
  await gsb.bind('/public/vpn/net1', { raw: () => undefined });
  t.same(await seen(), [2, 1], 'another kind of name');
  await gsb.close();
});

/** Which byte is spoiled, and what it becomes. */
const BAD: [string, (frame: Buffer) => number, number][] = [
  ['a caller that is no UTF-8', (frame) => frame.indexOf('0xab'), 0xff],
  ['an id that is no UTF-8', (frame) => frame.indexOf('\x1a$') + 2, 0xff],
  ['a field beyond the packet', (frame) => frame.indexOf('"') + 1, 0x7f],
  ['a length beyond what is accepted', () => 0, 0xff],
];

for (const [what, where, byte] of BAD) {
  t.test(`the connection ends: ${what}`, async (t) => {
    const router = await startRouter(t);
    const gsb = connectTo(t, router);
    const { frames, flushes, handler } = collector();
    await gsb.bind('/public/vpn', { frames: handler });
    const lost = new Promise<YavmError | undefined>((resolve) =>
      gsb.onState((state, error) => state === 'down' && resolve(error)),
    );
    const connection = await router.connection();
    const bad = Buffer.from(encodePacket(push('bad')));
    bad[where(bad)] = byte;
    connection.socket.write(Buffer.concat([encodePacket(push('good')), bad, encodePacket(push('after'))]));
    t.match(await lost, { code: 'YAVM_E_GSB_FRAME' });
    t.same(
      frames.map(({ data }) => data),
      ['good'],
    );
    t.equal(flushes(), 1, 'and it was told that this was all');
    const again = await router.connection();
    await sendBytes(again, encodePacket(push('again')));
    t.equal(frames.at(-1)?.data, 'again');
  });
}

t.test(
  'pushed frames leave in one piece, when asked for or at the end of the turn, in the order of all calls',
  async (t) => {
    const router = await startRouter(t);
    const gsb = connectTo(t, router);
    await gsb.bind('/up', { unary: () => null });
    const connection = await router.connection();
    const pusher = gsb.pusher(ADDRESS, NODE);
    const names = async (packets: number) => {
      const data: string[] = [];
      for (let index = 0; index < packets; index++)
        data.push(text((await connection.take('callRequest')).data));
      return data;
    };
    const bursts = connection.bursts;
    for (const name of ['a', 'b', 'c']) t.equal(pusher.push(Buffer.from(`..${name}.`), 2, 1), true);
    gsb.flushFrames();
    t.same(await names(3), ['a', 'b', 'c']);
    t.equal(connection.bursts, bursts + 1);
    pusher.push(Buffer.from('later'), 0, 5);
    t.same(await names(1), ['later'], 'nobody asked');
    pusher.push(Buffer.from('1'), 0, 1);
    gsb.push('/x', Buffer.from('2'), NODE);
    pusher.push(Buffer.from('3'), 0, 1);
    gsb.pusher('/y', NODE).push(Buffer.from('4'), 0, 1);
    pusher.push(Buffer.alloc(200_000, '5'), 0, 200_000);
    pusher.push(Buffer.from('6'), 0, 1);
    t.same(
      (await names(6)).map((data) => data.slice(0, 1)),
      ['1', '2', '3', '4', '5', '6'],
    );
    t.equal(gsb.dropped, 0);
  },
);

t.test('frames behind other bytes that wait for the socket leave after them', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/up', { unary: () => null });
  const connection = await router.connection();
  connection.socket.pause();
  const pusher = gsb.pusher(ADDRESS, NODE);
  gsb.push('/x', Buffer.alloc(900_000), NODE);
  for (const name of ['one', 'two']) {
    pusher.push(Buffer.from(name), 0, 3);
    gsb.flushFrames();
    await setImmediate();
  }
  connection.socket.resume();
  t.equal((await connection.take('callRequest')).data.length, 900_000);
  t.equal(text((await connection.take('callRequest')).data), 'one');
  t.equal(text((await connection.take('callRequest')).data), 'two');
});

t.test(
  'without a connection, or when nobody reads, frames are dropped and counted; later ones go',
  async (t) => {
    const router = await startRouter(t);
    const gsb = connectTo(t, router);
    const pusher = gsb.pusher(ADDRESS, NODE);
    t.equal(pusher.push(Buffer.alloc(1), 0, 1), false);
    t.equal(gsb.dropped, 1);
    await gsb.bind('/up', { unary: () => null });
    const connection = await router.connection();
    connection.socket.pause();
    const frame = Buffer.alloc(1220);
    let sent = 0;
    let bytes = 0;
    while (pusher.push(frame, 0, frame.length)) {
      bytes += frame.length;
      if (++sent % 100 === 0) gsb.flushFrames();
      if (sent % 1000 === 0) await setImmediate();
    }
    t.equal(gsb.dropped, 2);
    t.ok(bytes > 1024 * 1024 && bytes < 4 * 1024 * 1024, `${bytes} bytes are under way`);
    connection.socket.resume();
    for (let index = 0; index < sent; index++) await connection.take('callRequest');
    t.equal(pusher.push(Buffer.from('after'), 0, 5), true);
    t.equal(text((await connection.take('callRequest')).data), 'after');
    const answered = gsb.call('/x', null, soon);
    connection.reply((await connection.take('callRequest')).requestId, { Ok: 1 });
    t.equal(await answered, 1);

    const down = new Promise((resolve) => gsb.onState((state) => state === 'down' && resolve(null)));
    await router.stop();
    await down;
    t.equal(pusher.push(frame, 0, 1), false);
    const up = new Promise((resolve) => gsb.onState((state) => state === 'up' && resolve(null)));
    await router.listen();
    const next = await router.connection();
    await up;
    t.equal(pusher.push(Buffer.from('over again'), 0, 10), true, 'a pusher survives the connection');
    t.equal(text((await next.take('callRequest')).data), 'over again');
  },
);
