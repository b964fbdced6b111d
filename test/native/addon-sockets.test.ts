/** native/host-face.ts: what the addon has under Node alone, with sockets of this machine. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import t from 'tap';
import { buildAddon } from '../../build/addon.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import type { HostNative } from '../../native/host-face.ts';
import { loadNativeAt } from '../../native/load.ts';

const native: HostNative = loadNativeAt(await buildAddon());
const BUFFER = 1 << 20;
const TOO_LONG = 0xffffffff;

function ready(fd: number, events: 1 | 2): Promise<void> {
  return new Promise((resolve) => {
    native.watch(fd, events, () => {
      native.unwatch(fd);
      resolve();
    });
  });
}

function bytes(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed) & 0xff);
}

for (const kind of ['udp', 'unix-datagram'] as const) {
  t.test(`${kind}: batches of datagrams, both ways`, async (t) => {
    const ends = native.cable(kind, BUFFER);
    for (const [from, to] of [ends, [...ends].reverse() as [number, number]]) {
      const sizes = Uint32Array.of(1, 14, 60, 1514, 9000, 65_507);
      const offsets = Uint32Array.from(sizes, (_, index) => index * 3);
      const data = bytes(70_000);
      t.equal(
        native.sendDatagrams(from, data, offsets, Uint32Array.from(sizes), 0, sizes.length),
        sizes.length,
      );
      const into = new Uint8Array(8 * 65_536);
      const lengths = new Uint32Array(8);
      t.equal(native.receiveDatagrams(to, into, 65_536, lengths), sizes.length);
      t.same([...lengths.subarray(0, sizes.length)], [...sizes]);
      for (let index = 0; index < sizes.length; index++) {
        const length = sizes[index] as number;
        const got = into.subarray(index * 65_536, index * 65_536 + length);
        t.equal(Buffer.compare(got, data.subarray(offsets[index], (offsets[index] as number) + length)), 0);
      }
      t.equal(native.receiveDatagrams(to, into, 65_536, lengths), 0, 'then nothing is there');
    }
    for (const fd of ends) native.close(fd);
  });

  t.test(`${kind}: from the first of a batch on, and more than one call of the kernel takes`, async (t) => {
    const [near, far] = native.cable(kind, BUFFER);
    const data = bytes(1000);
    const offsets = Uint32Array.from({ length: 400 }, (_, index) => index);
    const lengths = new Uint32Array(400).fill(20);
    const received: number[] = [];
    const into = new Uint8Array(300 * 32);
    const got = new Uint32Array(300);
    const take = () => {
      for (;;) {
        const count = native.receiveDatagrams(far, into, 32, got);
        if (count === 0) return;
        t.ok(count <= 256, 'a bound');
        for (let index = 0; index < count; index++) received.push(into[index * 32] as number);
      }
    };
    for (let at = 5; at < 400; ) {
      const done = native.sendDatagrams(near, data, offsets, lengths, at, 400);
      at += done;
      t.ok(done > 0, 'goes on when the other end took some');
      take();
    }
    t.same(
      received,
      Array.from({ length: 395 }, (_, index) => ((index + 5) * 7 + 1) & 0xff),
    );
    for (const fd of [near, far]) native.close(fd);
  });

  t.test(
    `${kind}: a datagram that is too long for its slot is told, and one that cannot go is passed over`,
    async (t) => {
      const [near, far] = native.cable(kind, 300_000);
      const data = new Uint8Array(1 << 20);
      const lengths = Uint32Array.of(20, 1 << 20, 40, 17);
      t.equal(native.sendDatagrams(near, data, new Uint32Array(4), lengths, 0, 4), 4);
      t.same([...lengths], [20, 0, 40, 17], 'EMSGSIZE');
      const got = new Uint32Array(4);
      t.equal(native.receiveDatagrams(far, new Uint8Array(128), 32, got), 3);
      t.same([...got], [20, TOO_LONG, 17, 0]);
      for (const fd of [near, far]) native.close(fd);
    },
  );
}

t.test('udp: a full socket loses, and neither end fails because the other is gone', async (t) => {
  const [near, far] = native.cable('udp', 65_536);
  const lengths = new Uint32Array(256).fill(1500);
  const data = new Uint8Array(2000);
  for (let round = 0; round < 4; round++) {
    t.equal(native.sendDatagrams(near, data, new Uint32Array(256), lengths, 0, 256), 256);
  }
  const got = new Uint32Array(256);
  const into = new Uint8Array(256 * 2000);
  let received = 0;
  for (let count = 1; count > 0; received += count) count = native.receiveDatagrams(far, into, 2000, got);
  t.ok(received > 0 && received < 1024, `${received} of 1024`);
  native.close(far);
  for (let round = 0; round < 3; round++) {
    t.equal(native.sendDatagrams(near, data, new Uint32Array(4), new Uint32Array(4).fill(60), 0, 4), 4);
    t.equal(native.receiveDatagrams(near, into, 2000, got), 0, 'ECONNREFUSED is no error');
  }
  native.close(near);
});

t.test('unix-datagram: a full socket is no loss, and a peer that is gone is an error', async (t) => {
  const [near, far] = native.cable('unix-datagram', 65_536);
  const lengths = new Uint32Array(4096).fill(1500);
  const data = new Uint8Array(2000);
  const sent = native.sendDatagrams(near, data, new Uint32Array(4096), lengths, 0, 4096);
  t.ok(sent > 0 && sent < 4096, `${sent} of 4096`);
  const got = new Uint32Array(256);
  const into = new Uint8Array(256 * 2000);
  const writable = ready(near, 2);
  let received = 0;
  for (let count = 1; count > 0; received += count) count = native.receiveDatagrams(far, into, 2000, got);
  t.equal(received, sent, 'each that was taken comes');
  await withDeadline(writable, 10_000, 'room');
  native.close(far);
  t.throws(
    () => {
      for (let tries = 0; tries < 3; tries++) {
        native.sendDatagrams(near, data, new Uint32Array(1), new Uint32Array(1).fill(60), 0, 1);
      }
    },
    { code: 'ENOTCONN' },
  );
  native.close(near);
});

t.test('udp: nobody else can send to an end of a cable', async (t) => {
  const [near, far] = native.cable('udp', BUFFER);
  const local = (fd: number) => Number.parseInt(portsOf(fd)[0] as string, 16);
  const stranger = createSocket('udp4');
  await new Promise<void>((resolve) => stranger.send('hello', local(near), '127.0.0.1', () => resolve()));
  native.sendDatagrams(far, bytes(20), Uint32Array.of(0), Uint32Array.of(20), 0, 1);
  await withDeadline(ready(near, 1), 10_000, 'a datagram');
  const got = new Uint32Array(4);
  t.equal(native.receiveDatagrams(near, new Uint8Array(4 * 64), 64, got), 1);
  t.equal(got[0], 20, "the cable's own");
  stranger.close();
  for (const fd of [near, far]) native.close(fd);
});

/** Local and remote port of a UDP socket, hexadecimal, by its inode. */
function portsOf(fd: number): string[] {
  const [, inode] = /\[(\d+)\]/.exec(native.readlink(`/proc/self/fd/${fd}`)) as RegExpExecArray;
  const rows = native.readText(-1, '/proc/self/net/udp', 1 << 20).split('\n');
  const row = rows.map((line) => line.trim().split(/\s+/)).find((fields) => fields[9] === inode) as string[];
  return [row[1], row[2]].map((address) => (address as string).split(':')[1] as string);
}

for (const kind of ['tcp', 'unix'] as const) {
  t.test(`${kind}: bytes, both ways, until there is no room, and the end`, async (t) => {
    const ends = native.cable(kind, 65_536);
    for (const [from, to] of [ends, [...ends].reverse() as [number, number]]) {
      const data = bytes(5000);
      const into = new Uint8Array(5000);
      t.equal(native.receiveBytes(to, into, 0, 10), -1, 'nothing is there');
      t.equal(native.sendBytes(from, data, 1000, 3000), 3000);
      await withDeadline(ready(to, 1), 10_000, 'bytes');
      t.equal(native.receiveBytes(to, into, 7, 100), 100);
      t.equal(native.receiveBytes(to, into, 107, 4000), 2900);
      t.equal(Buffer.compare(into.subarray(7, 3007), data.subarray(1000, 4000)), 0);
      let sent = 0;
      const big = new Uint8Array(1 << 20);
      for (let count = 0; count >= 0; sent += Math.max(0, count)) {
        count = native.sendBytes(from, big, 0, big.length);
      }
      t.ok(sent > 10_000, `${sent} bytes, then -1`);
      let received = 0;
      while (received < sent) {
        const count = native.receiveBytes(to, big, 0, big.length);
        if (count < 0) await withDeadline(ready(to, 1), 10_000, 'the rest');
        else received += count;
      }
      t.equal(received, sent);
    }
    native.close(ends[1]);
    t.equal(native.receiveBytes(ends[0], new Uint8Array(10), 0, 10), 0, 'the end');
    t.throws(
      () => {
        for (let tries = 0; tries < 3; tries++) native.sendBytes(ends[0], new Uint8Array(10), 0, 10);
      },
      { code: 'EPIPE', syscall: 'send' },
    );
    native.close(ends[0]);
  });
}

t.test('udp: connected to another program', async (t) => {
  const server = createSocket('udp4');
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const [fd, port] = native.udpConnect('127.0.0.1', server.address().port, BUFFER);
  const came = once(server, 'message');
  t.equal(native.sendDatagrams(fd, bytes(100), Uint32Array.of(0), Uint32Array.of(100), 0, 1), 1);
  const [message, { port: from }] = await came;
  t.same(message, Buffer.from(bytes(100)));
  t.equal(from, port, 'from the port that was told');
  server.send(bytes(30, 9), port, '127.0.0.1');
  await withDeadline(ready(fd, 1), 10_000, 'the answer');
  const into = new Uint8Array(64);
  t.equal(native.receiveDatagrams(fd, into, 64, new Uint32Array(1)), 1);
  t.same(into.subarray(0, 30), bytes(30, 9));
  native.close(fd);
  server.close();
});

t.test('tcp: connects without waiting; a refusal is an error of the first use', async (t) => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, 'connection');
  const fd = native.tcpConnect('127.0.0.1', port);
  await withDeadline(ready(fd, 2), 10_000, 'a connection');
  t.equal(native.sendBytes(fd, bytes(50), 0, 50), 50);
  const [socket] = await accepted;
  const [chunk] = await once(socket, 'data');
  t.equal(chunk.length, 50);
  socket.destroy();
  native.close(fd);
  server.close();
  await once(server, 'close');
  t.throws(
    () => {
      const refused = native.tcpConnect('127.0.0.1', port);
      try {
        for (let tries = 0; tries < 2; tries++) native.receiveBytes(refused, new Uint8Array(1), 0, 1);
      } finally {
        native.close(refused);
      }
    },
    { code: 'ECONNREFUSED' },
  );
});

t.test('tcp: listens on a port of its own', async (t) => {
  const [fd, port] = native.tcpListen();
  const client = connect(port, '127.0.0.1');
  await once(client, 'connect');
  await withDeadline(ready(fd, 1), 10_000, 'a connection');
  t.pass('somebody waits to be accepted');
  client.destroy();
  native.close(fd);
});

t.test('no call takes parts that are not there', async (t) => {
  const any = native as unknown as Record<string, (...args: unknown[]) => unknown>;
  const [near, far] = native.cable('unix', 0);
  const data = new Uint8Array(100);
  const wrong: [RegExp, string, ...unknown[]][] = [
    [/kind must be/, 'cable', 'carrier-pigeon', 0],
    [/buffer must be an integer/, 'cable', 'udp', -1],
    [/address must be an IPv4/, 'udpConnect', 'localhost', 1, 0],
    [/port must be an integer/, 'udpConnect', '127.0.0.1', 0, 0],
    [/address must be an IPv4/, 'tcpConnect', '::1', 1],
    [/stride must be/, 'receiveDatagrams', near, data, 0, new Uint32Array(1)],
    [/lengths must be a Uint32Array/, 'receiveDatagrams', near, data, 10, new Uint16Array(1)],
    [/offsets must be a Uint32Array/, 'sendDatagrams', near, data, data, new Uint32Array(1), 0, 1],
    [/lengths must be of parts/, 'sendDatagrams', near, data, Uint32Array.of(50), Uint32Array.of(51), 0, 1],
    [/lengths must be of parts/, 'sendDatagrams', near, data, Uint32Array.of(101), Uint32Array.of(0), 0, 1],
    [
      /lengths must be of parts/,
      'sendDatagrams',
      near,
      data,
      Uint32Array.of(1),
      Uint32Array.of(2 ** 32 - 1),
      0,
      1,
    ],
    [
      /count must be an integer from 0 to 1/,
      'sendDatagrams',
      near,
      data,
      new Uint32Array(1),
      new Uint32Array(9),
      0,
      2,
    ],
    [/length must be an integer from 0 to 50/, 'receiveBytes', near, data, 50, 51],
    [/offset must be an integer from 0 to 100/, 'sendBytes', near, data, 101, 0],
  ];
  for (const [pattern, name, ...args] of wrong) {
    t.throws(() => any[name]?.(...args), { name: 'TypeError', message: pattern }, `${name}: ${pattern}`);
  }
  t.equal(
    native.sendDatagrams(near, data, new Uint32Array(1), new Uint32Array(1), 1, 1),
    0,
    'nothing to send',
  );
  t.equal(native.receiveDatagrams(far, new Uint8Array(5), 10, new Uint32Array(1)), 0, 'no room for one');
  for (const fd of [near, far]) native.close(fd);
  t.throws(() => native.receiveBytes(2 ** 20, data, 0, 1), { code: 'EBADF', syscall: 'recv' });
  t.throws(() => native.sendDatagrams(2 ** 20, data, new Uint32Array(1), new Uint32Array(1), 0, 1), {
    code: 'EBADF',
  });
});
