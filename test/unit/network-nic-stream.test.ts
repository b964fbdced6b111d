/** The framing of streams: reads that split and merge frames, bytes that are none, and ranges sent as they came. */
import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import type { StreamLink } from '../../host/network/nic/stream-link.ts';
import { MAX_FRAME } from '../../host/network/types.ts';
import { Arrivals, bareStream, frame, framed, native, turn } from '../lib/cables.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import type { Owner } from '../lib/vm.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

/** Writes all of it to the far end, a turn at a time where it is full. */
async function write(far: number, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const taken = native.sendBytes(far, bytes, at, bytes.length - at);
    if (taken < 0) await turn();
    else at += taken;
  }
}

/** Reads from the far end until `length` bytes have come. */
async function read(far: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const got = native.receiveBytes(far, bytes, at, length - at);
    if (got === 0) throw new Error(`the end after ${at} of ${length} bytes`);
    if (got < 0) await turn();
    else at += got;
  }
  return bytes;
}

function closing(t: Owner, far: number): void {
  t.teardown(() => native.close(far));
}

t.test('frames cut in two at every byte', async (t) => {
  const { link, arrivals, far } = bareStream(t);
  closing(t, far);
  const frames = [frame(14, 1), frame(15, 2), frame(60, 3)];
  const bytes = framed(...frames);
  for (let cut = 0; cut <= bytes.length; cut++) {
    arrivals.frames.length = 0;
    await write(far, bytes.subarray(0, cut));
    for (let turns = 0; turns < 3; turns++) await turn();
    await write(far, bytes.subarray(cut));
    await arrivals.count(3);
    t.same(arrivals.frames, frames, `after ${cut} bytes`);
  }
  t.equal(link.counters.framesIn, 3 * (bytes.length + 1));
  t.equal(link.counters.bytesIn, 89 * (bytes.length + 1));
});

t.test('byte by byte, and all at once', async (t) => {
  const { arrivals, far } = bareStream(t, 'tcp');
  closing(t, far);
  const frames = [frame(14, 1), frame(64, 2), frame(19, 3)];
  const bytes = framed(...frames);
  for (const byte of bytes) {
    await write(far, Uint8Array.of(byte));
    await turn();
  }
  await arrivals.count(3);
  const many = Array.from({ length: 1000 }, (_, number) => frame(14 + (number % 50), number));
  await write(far, framed(...many));
  await arrivals.count(1003);
  t.same(arrivals.frames, [...frames, ...many]);
  t.ok(Math.max(...arrivals.batches) <= 256, 'a bound on batches');
});

t.test('random frames in random pieces, read with random pauses', async (t) => {
  for (let round = 0; round < count(40); round++) {
    const { link, arrivals, far } = bareStream(t, round % 2 === 0 ? 'unix' : 'tcp');
    const frames = Array.from({ length: 300 }, (_, number) => frame(size(), number));
    const bytes = framed(...frames);
    for (let at = 0; at < bytes.length; ) {
      const length = Math.min(bytes.length - at, random.between(1, 200_000));
      if (random.between(0, 8) === 0) {
        link.pause();
        setTimeout(() => link.resume(), 1);
      }
      await write(far, bytes.subarray(at, at + length));
      at += length;
    }
    await arrivals.count(frames.length);
    const wrong = arrivals.frames.findIndex(
      (got, number) => Buffer.compare(got, frames[number] as Uint8Array) !== 0,
    );
    t.equal(wrong, -1, `round ${round}`);
    native.close(far);
    await arrivals.until(({ end }) => end === null);
  }
});

function size(): number {
  const kind = random.between(0, 10);
  if (kind === 0) return MAX_FRAME;
  if (kind < 3) return random.between(14, MAX_FRAME);
  return random.between(14, 1600);
}

t.test('bytes that are no frames end the link, after the frames before them', async (t) => {
  const header = (...bytes: number[]) => Uint8Array.from(bytes);
  const cases: [string, Uint8Array, string][] = [
    ['a length of 0', header(0, 0, 0, 0), '0'],
    ['less than a header', header(0, 0, 0, 13), '13'],
    ['more than an MTU allows', header(0, 1, 0, 0), '65536'],
    ['4 GiB', header(0xff, 0xff, 0xff, 0xff), '4294967295'],
    ['the wrong byte order', header(60, 0, 0, 0), '1006632960'],
  ];
  for (const [name, garbage, told] of cases) {
    for (const before of [0, 3]) {
      const { link, arrivals, far } = bareStream(t);
      closing(t, far);
      const frames = Array.from({ length: before }, (_, number) => frame(60, number));
      await write(far, Buffer.concat([framed(...frames), garbage, framed(frame(60, 9))]));
      await arrivals.until(({ end }) => end !== undefined);
      const { frames: came, end } = arrivals;
      t.same(came, frames, `${name}: what came before`);
      t.match(end, { code: 'YAVM_E_NET_FRAME', message: new RegExp(`of ${told} bytes`) }, name);
      t.notOk(link.send(frame(60), 0, 60), 'nothing goes out any more');
      await turn();
      t.equal(came.length, before, 'nothing comes any more');
    }
  }
});

t.test('random bytes are frames or the end, and nothing else', async (t) => {
  let ended = 0;
  for (let round = 0; round < count(2000); round++) {
    const { link, arrivals, far } = bareStream(t);
    const bytes = random.bytes(random.between(1, 3000));
    // Half of them look like lengths that are sound.
    for (let at = 0; at + 4 < bytes.length; at += random.between(4, 40)) bytes.fill(0, at, at + 3);
    await write(far, bytes);
    native.close(far);
    await arrivals.until(({ end }) => end !== undefined);
    const { end, frames } = arrivals;
    if (end !== null) {
      ended++;
      if (!isYavmError(end, 'YAVM_E_NET_FRAME')) t.fail(`${end}`);
    }
    const total = frames.reduce((sum, one) => sum + one.length + 4, 0);
    if (total > bytes.length || frames.length !== link.counters.framesIn) t.fail(`round ${round}`);
    link.close();
  }
  t.ok(ended > 0, `${ended} ended by a length that is none`);
});

t.test('a stream that ends in the middle of a frame ends', async (t) => {
  const { arrivals, far } = bareStream(t);
  await write(far, framed(frame(60, 1), frame(60, 2)).subarray(0, 100));
  await arrivals.count(1);
  native.close(far);
  await arrivals.until(({ end }) => end !== undefined);
  t.equal(arrivals.end, null);
  t.same(arrivals.frames, [frame(60, 1)]);
});

t.test('frames of a batch are views of what was read, each behind its length', async (t) => {
  const { link, far } = bareStream(t);
  closing(t, far);
  const frames = Array.from({ length: 20 }, (_, number) => frame(100 + number, number));
  const sent = framed(...frames);
  const buffers = new Set<ArrayBufferLike>();
  const ranges: Uint8Array[] = [];
  let came = 0;
  link.onBatch = ({ bytes, count, offsets, lengths }) => {
    const start = (offsets[0] as number) - 4;
    const end = (offsets[count - 1] as number) + (lengths[count - 1] as number);
    ranges.push(bytes.slice(start, end));
    buffers.add(bytes.buffer);
    came += count;
  };
  await write(far, sent);
  while (came < 20) await turn();
  t.same(Buffer.concat(ranges), sent);
  t.equal(buffers.size, 1);
});

t.test('a handler that pauses gets the rest of what was read when it resumes', async (t) => {
  const { link, far } = bareStream(t);
  closing(t, far);
  const arrivals = new Arrivals(link);
  const take = link.onBatch;
  link.onBatch = (batch) => {
    take(batch);
    link.pause();
  };
  await write(far, framed(...Array.from({ length: 600 }, (_, number) => frame(20, number))));
  for (const expected of [256, 512, 600]) {
    await arrivals.count(expected);
    for (let turns = 0; turns < 4; turns++) await turn();
    t.equal(arrivals.frames.length, expected, 'no more than a batch while it is paused');
    link.resume();
  }
  await write(far, framed(frame(20, 600)));
  await arrivals.count(601);
  t.same(arrivals.frames[600], frame(20, 600));
});

/** What the far end gets of frames sent one by one, and as ranges, mixed. */
async function mixed(link: StreamLink, far: number, frames: Uint8Array[]): Promise<Uint8Array> {
  const whole = framed(...frames);
  const reading = read(far, whole.length);
  for (let at = 0; at < frames.length; ) {
    const some = frames.slice(at, at + random.between(1, 30));
    const range = framed(...some);
    const padded = Buffer.concat([new Uint8Array(7), range, new Uint8Array(9)]);
    const ranged = random.between(0, 2) === 0;
    if (ranged) {
      while (!link.sendFramed(padded, 7, 7 + range.length)) await turn();
    } else {
      for (const one of some) while (!link.send(one, 0, one.length)) await turn();
    }
    padded.fill(0xee);
    at += some.length;
    if (random.between(0, 4) === 0) await turn();
  }
  return reading;
}

t.test(
  'ranges go out as they are, in their order among single frames, whatever the socket takes',
  async (t) => {
    for (let round = 0; round < count(40); round++) {
      const { link, far } = bareStream(t, round % 2 === 0 ? 'unix' : 'tcp');
      closing(t, far);
      const frames = Array.from({ length: 400 }, (_, number) => frame(size(), number));
      const got = await mixed(link, far, frames);
      t.equal(Buffer.compare(got, framed(...frames)), 0, `round ${round}`);
      t.match(link.counters, {
        framesOut: frames.length,
        bytesOut: frames.reduce((sum, one) => sum + one.length, 0),
      });
    }
  },
);

t.test('a range that finds no room is dropped as a whole, and counted by frame', async (t) => {
  const { link, arrivals, far } = bareStream(t);
  closing(t, far);
  const frames = Array.from({ length: 30 }, (_, number) => frame(5000, number));
  const range = framed(...frames);
  let taken = 0;
  while (link.sendFramed(range, 0, range.length)) taken++;
  t.ok(taken > 1);
  t.ok(link.pressed);
  t.match(link.counters, { framesOut: taken * 30, bytesOut: taken * 150_000, dropped: 30 });
  const got = await read(far, taken * range.length);
  for (let at = 0; at < taken; at++) {
    t.equal(Buffer.compare(got.subarray(at * range.length, (at + 1) * range.length), range), 0);
  }
  await arrivals.until(({ rooms }) => rooms > 0);
  t.ok(link.sendFramed(range, 0, range.length), 'then there is room again');
});

t.test('a range for a peer that is gone', async (t) => {
  const { link, arrivals, far } = bareStream(t);
  native.close(far);
  const range = framed(frame(60), frame(61));
  link.sendFramed(range, 0, range.length);
  t.equal(arrivals.end, undefined, 'not told while somebody sends');
  await arrivals.until(({ end }) => end === null);
  t.notOk(link.sendFramed(range, 0, range.length));
  t.ok(link.counters.dropped >= 2);
});
