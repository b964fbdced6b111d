/** Links at both ends of every kind of cable, in one thread. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { makeCable } from '../../host/network/nic/cable.ts';
import { openFrameLink } from '../../host/network/nic/open.ts';
import { MAX_FRAME } from '../../host/network/types.ts';
import { Arrivals, bareDatagrams, frame, linkPair, native, turn } from '../lib/cables.ts';

const ECHO = new URL('../lib/echo-link.ts', import.meta.url);

const KINDS = ['udp', 'unix-datagram', 'tcp', 'unix'] as const;
const isDatagram = (kind: string) => kind === 'udp' || kind === 'unix-datagram';
/** What fits into a UDP datagram on IPv4: 65,535 less the headers. */
const MOST = { udp: 65_507, 'unix-datagram': MAX_FRAME, tcp: MAX_FRAME, unix: MAX_FRAME } as const;

/** All sizes up to a few pages, then some, and those around powers of two. */
function sizes(most: number): number[] {
  const all: number[] = [];
  for (let size = 14; size < 4200; size++) all.push(size);
  for (let size = 4200; size < most; size += 997) all.push(size);
  for (let power = 8192; power < most; power *= 2) all.push(power - 1, power, power + 1);
  return [...all, most - 1, most];
}

for (const kind of KINDS) {
  t.test(`${kind}: frames of every size, both ways at once`, async (t) => {
    const { near, far, arrivals } = linkPair(t, kind);
    const all = sizes(MOST[kind]);
    const most = new Uint8Array(70_000);
    for (const [index, size] of all.entries()) {
      for (const [link, seed] of [
        [near, index],
        [far, index + 1],
      ] as const) {
        most.set(frame(size, seed), 5);
        while (!link.send(most, 5, size)) await turn();
      }
      // No more than an ordinary user's socket buffer holds.
      if (isDatagram(kind) && (size > 2000 || index % 16 === 15)) await turn();
    }
    await Promise.all([arrivals.near.count(all.length), arrivals.far.count(all.length)]);
    for (const [index, size] of all.entries()) {
      if (Buffer.compare(arrivals.far.frames[index] as Uint8Array, frame(size, index)) !== 0) {
        t.fail(`near to far, ${size} bytes`);
      }
      if (Buffer.compare(arrivals.near.frames[index] as Uint8Array, frame(size, index + 1)) !== 0) {
        t.fail(`far to near, ${size} bytes`);
      }
    }
    const bytes = all.reduce((sum, size) => sum + size, 0);
    const counted = { framesIn: all.length, bytesIn: bytes, framesOut: all.length, bytesOut: bytes };
    t.match(near.counters, counted);
    t.match(far.counters, counted);
  });

  t.test(`${kind}: no frame is shorter than its header or longer than an MTU allows`, async (t) => {
    const { near, far, arrivals } = linkPair(t, kind);
    const bytes = new Uint8Array(MAX_FRAME + 1);
    for (const length of [0, 1, 13, MAX_FRAME + 1]) t.notOk(near.send(bytes, 0, length), `${length}`);
    t.equal(near.counters.dropped, 4);
    t.ok(near.send(bytes, 0, 14));
    await arrivals.far.count(1);
    t.match(far.counters, { framesIn: 1, dropped: 0 });
  });

  t.test(`${kind}: what is sent in a turn goes out at its end, or with a flush`, async (t) => {
    const { near, arrivals } = linkPair(t, kind);
    for (let number = 0; number < 10; number++) near.send(frame(60, number), 0, 60);
    t.equal(near.counters.framesIn, 0);
    await arrivals.far.count(10);
    t.same(arrivals.far.batches, [10], 'together');
    near.send(frame(60, 10), 0, 60);
    near.flush();
    await arrivals.far.count(11);
    t.same(arrivals.far.frames[10], frame(60, 10));
  });

  t.test(`${kind}: a paused link reads nothing, and goes on where it was`, async (t) => {
    const { near, far, arrivals } = linkPair(t, kind);
    far.pause();
    for (let number = 0; number < 8; number++) near.send(frame(100, number), 0, 100);
    for (let turns = 0; turns < 10; turns++) await turn();
    t.equal(arrivals.far.frames.length, 0);
    far.send(frame(14), 0, 14);
    await arrivals.near.count(1);
    t.pass('writing goes on');
    far.resume();
    await arrivals.far.count(8);
    t.same(
      arrivals.far.frames,
      Array.from({ length: 8 }, (_, number) => frame(100, number)),
    );
  });

  t.test(`${kind}: a handler may close its link, and nothing comes after it`, async (t) => {
    const { near, far, arrivals } = linkPair(t, kind);
    let batches = 0;
    far.onBatch = () => {
      batches++;
      far.close();
      far.close();
    };
    for (let round = 0; round < 5; round++) {
      near.send(frame(200, round), 0, 200);
      near.flush();
      for (let turns = 0; turns < 3; turns++) await turn();
    }
    t.equal(batches, 1);
    t.notOk(far.send(frame(60), 0, 60), 'sending says no');
    far.flush();
    far.pause();
    far.resume();
    await turn();
    t.equal(arrivals.far.end, undefined, 'onEnd is for the other side');
  });

  t.test(`${kind}: a link in a worker thread, which ends with it`, async (t) => {
    const { near: end, backend } = makeCable(native, kind);
    const link = openFrameLink(native, end);
    t.teardown(() => link.close());
    const arrivals = new Arrivals(link);
    const worker = new Worker(ECHO, { workerData: backend });
    await once(worker, 'message');
    for (let number = 0; number < 100; number++) link.send(frame(64, number), 0, 64);
    await arrivals.count(100);
    t.same(
      arrivals.frames,
      Array.from({ length: 100 }, (_, number) => frame(64, number)),
    );
    await worker.terminate();
    // The watch ends with the thread; its descriptor is its owner's.
    native.close(backend.fd);
    if (!isDatagram(kind)) {
      await arrivals.until(({ end }) => end !== undefined);
      t.equal(arrivals.end, null);
    }
  });

  t.test(`${kind}: leaves nothing open`, async (t) => {
    const before = readdirSync('/proc/self/fd').length;
    const { near, far } = linkPair(t, kind);
    t.equal(readdirSync('/proc/self/fd').length, before + 2);
    near.close();
    far.close();
    t.equal(readdirSync('/proc/self/fd').length, before);
  });
}

t.test('streams: a full peer presses, no frame is lost that was taken, and room is told once', async (t) => {
  for (const kind of ['tcp', 'unix', 'unix-datagram'] as const) {
    const { near, far, arrivals } = linkPair(t, kind);
    far.pause();
    let taken = 0;
    let pressedAt = -1;
    while (near.send(frame(1220, taken), 0, 1220)) {
      taken++;
      if (near.pressed && pressedAt < 0) pressedAt = taken;
      if (taken % 50 === 0) await turn();
      if (taken > 100_000) break;
    }
    t.ok(taken < 100_000, `${kind}: a bound: ${taken} frames`);
    t.ok(pressedAt > 0 && pressedAt < taken, `${kind}: pressed at ${pressedAt}, before frames are dropped`);
    t.equal(near.counters.dropped, 1);
    // TCP hands on to the other socket by itself, which makes room once more.
    if (kind !== 'tcp') t.equal(arrivals.near.rooms, 0);
    far.resume();
    await arrivals.far.count(taken);
    await arrivals.near.until(({ rooms }) => rooms > 0 && !near.pressed);
    for (let turns = 0; turns < 5; turns++) await turn();
    if (kind !== 'tcp') t.equal(arrivals.near.rooms, 1, `${kind}: told once`);
    t.notOk(near.pressed);
    t.equal(arrivals.far.frames.length, taken);
    const wrong = arrivals.far.frames.findIndex(
      (bytes, number) => Buffer.compare(bytes, frame(1220, number)) !== 0,
    );
    t.equal(wrong, -1, `${kind}: in order and whole`);
    t.ok(near.send(frame(60), 0, 60), 'and goes on');
    await arrivals.far.count(taken + 1);
  }
});

t.test('a queue that is filled up again and again while it drains keeps its order', async (t) => {
  for (const kind of ['tcp', 'unix', 'unix-datagram'] as const) {
    const { near, far, arrivals } = linkPair(t, kind);
    let taken = 0;
    const length = () => 14 + ((taken * 37) % 1500);
    for (let round = 0; round < 40; round++) {
      if (round % 4 === 0) far.pause();
      else if (round % 4 === 1) far.resume();
      while (near.send(frame(length(), taken), 0, length())) taken++;
      await turn();
    }
    t.ok(near.counters.dropped > 10, `${kind}: full ${near.counters.dropped} times in ${taken} frames`);
    far.resume();
    await arrivals.far.count(taken);
    const wrong = arrivals.far.frames.findIndex(
      (bytes, number) => Buffer.compare(bytes, frame(14 + ((number * 37) % 1500), number)) !== 0,
    );
    t.equal(wrong, -1, kind);
  }
});

t.test('unix-datagram: many small frames press too', async (t) => {
  const { near, far } = linkPair(t, 'unix-datagram');
  far.pause();
  let taken = 0;
  let waiting = 0;
  for (; near.send(frame(60), 0, 60); taken++) if (!near.pressed) waiting = taken;
  t.ok(
    near.pressed && taken - waiting > 1000,
    `pressed long before the last of ${taken} frames: at ${waiting}`,
  );
});

t.test('a peer that is gone', async (t) => {
  for (const kind of ['tcp', 'unix'] as const) {
    const { far, arrivals } = linkPair(t, kind);
    far.send(frame(60), 0, 60);
    far.flush();
    far.close();
    await arrivals.near.until(({ end }) => end !== undefined);
    t.equal(arrivals.near.end, null, `${kind}: is the end, without an error`);
    t.equal(arrivals.near.frames.length, 1, 'after its last frame');
  }
  for (const kind of ['tcp', 'unix', 'unix-datagram'] as const) {
    const { near, far, arrivals } = linkPair(t, kind);
    near.pause();
    far.close();
    for (let round = 0; arrivals.near.end === undefined && round < 2000; round++) {
      near.send(frame(60), 0, 60);
      await turn();
    }
    t.equal(arrivals.near.end, null, `${kind}: seen by writing, too`);
    t.notOk(near.send(frame(60), 0, 60));
  }
  const { near, far, arrivals } = linkPair(t, 'udp');
  far.close();
  for (let round = 0; round < 20; round++) {
    t.ok(near.send(frame(60), 0, 60));
    await turn();
  }
  t.equal(arrivals.near.end, undefined, 'udp: is not the end');
  t.ok(near.counters.framesOut <= 20);
});

t.test('udp: a peer that was gone comes back', async (t) => {
  const first = createSocket('udp4').bind(0, '127.0.0.1');
  await once(first, 'listening');
  const { port } = first.address();
  const [fd, own] = native.udpConnect('127.0.0.1', port, 0);
  const link = openFrameLink(native, { kind: 'datagram', fd });
  t.teardown(() => link.close());
  const arrivals = new Arrivals(link);
  first.close();
  for (let round = 0; round < 20; round++) {
    link.send(frame(60), 0, 60);
    await turn();
  }
  const second = createSocket('udp4').bind(port, '127.0.0.1');
  await once(second, 'listening');
  const came = once(second, 'message');
  second.send(frame(60, 1), own, '127.0.0.1');
  await arrivals.count(1);
  t.same(arrivals.frames, [frame(60, 1)]);
  link.send(frame(61, 2), 0, 61);
  t.same(new Uint8Array((await came)[0]), frame(61, 2));
  second.close();
});

t.test('datagrams that are no frames are dropped and counted', async (t) => {
  for (const kind of ['udp', 'unix-datagram'] as const) {
    const { link, arrivals, far } = bareDatagrams(t, kind);
    t.teardown(() => native.close(far));
    const most = kind === 'udp' ? 65_507 : 70_000;
    const lengths = Uint32Array.of(0, 1, 13, 14, most, 60);
    const bytes = new Uint8Array(most);
    for (let at = 0; at < lengths.length; ) {
      at += native.sendDatagrams(far, bytes, new Uint32Array(6), lengths, at, 6);
      await turn();
    }
    const sound = kind === 'udp' ? [14, most, 60] : [14, 60];
    await arrivals.count(sound.length);
    t.same(
      arrivals.frames.map(({ length }) => length),
      sound,
    );
    t.match(link.counters, { framesIn: sound.length, dropped: 6 - sound.length });
  }
});
