import t from 'tap';
import { encodeCredit, encodeFrame, FrameType } from '../../guest/protocol/frames.ts';
import { FrameReader } from '../../host/runtime/frame-reader.ts';
import { Random } from '../lib/random.ts';

/** Everything that a reader hands on, as text; data of one stream is joined. */
function reader(): { reader: FrameReader; seen: string[]; data: Map<number, Buffer[]> } {
  const seen: string[] = [];
  const data = new Map<number, Buffer[]>();
  return {
    seen,
    data,
    reader: new FrameReader({
      message: (payload) => void seen.push(`message ${Buffer.from(payload).toString('hex')}`),
      log: (payload) => void seen.push(`log ${Buffer.from(payload).toString('hex')}`),
      end: (stream) => void seen.push(`end ${stream}`),
      credit: (stream, bytes) => void seen.push(`credit ${stream} ${bytes}`),
      data: (stream, piece) => {
        const pieces = data.get(stream) ?? [];
        data.set(stream, pieces);
        pieces.push(Buffer.from(piece));
      },
    }),
  };
}

t.test('however the bytes are cut, the same comes out', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = 0; round < 200; round++) {
    const parts: Uint8Array[] = [];
    const expected: string[] = [];
    const streams = new Map<number, Buffer[]>();
    for (let count = random.between(1, 30); count > 0; count--) {
      const payload = random.bytes(random.pick([1, 2, 9, 100, 3000]));
      const stream = random.between(1, 4);
      const kind = random.between(0, 5);
      if (kind === 0) {
        parts.push(encodeFrame(FrameType.message, 0, payload));
        expected.push(`message ${Buffer.from(payload).toString('hex')}`);
      } else if (kind === 1) {
        parts.push(encodeFrame(FrameType.log, 0, payload));
        expected.push(`log ${Buffer.from(payload).toString('hex')}`);
      } else if (kind === 2) {
        parts.push(encodeFrame(FrameType.end, stream, new Uint8Array(0)));
        expected.push(`end ${stream}`);
      } else if (kind === 3) {
        parts.push(encodeCredit(stream, payload.length));
        expected.push(`credit ${stream} ${payload.length}`);
      } else {
        parts.push(encodeFrame(FrameType.data, stream, payload));
        streams.set(stream, [...(streams.get(stream) ?? []), Buffer.from(payload)]);
      }
    }
    const whole = Buffer.concat(parts);
    const { reader: tested, seen, data } = reader();
    for (let at = 0; at < whole.length; ) {
      const size = random.pick([1, 2, 3, 8, 9, 10, 200, 5000]);
      tested.push(whole.subarray(at, at + size));
      at += size;
    }
    if (seen.join() !== expected.join()) t.fail(`round ${round}: ${seen} instead of ${expected}`);
    for (const [stream, pieces] of streams) {
      const got = Buffer.concat(data.get(stream) ?? []);
      if (!got.equals(Buffer.concat(pieces))) t.fail(`round ${round}: stream ${stream} differs`);
    }
    if (tested.midFrame) t.fail('left inside a frame');
  }
  t.pass('200 rounds');
});

t.test('impossible frames are refused by their head alone', async (t) => {
  const head = (type: number, payload: number) => {
    const frame = encodeFrame(type, 1, new Uint8Array(0));
    new DataView(frame.buffer).setUint32(0, payload + 5, true);
    return frame;
  };
  const cases: [string, Uint8Array, RegExp][] = [
    ['a length below the header', Uint8Array.from([4, 0, 0, 0, 2, 0, 0, 0, 0]), /data frame of -1 bytes/],
    ['an unknown type', head(77, 0), /type 77/],
    ['type 0', head(0, 0), /type 0/],
    ['a long message', head(FrameType.message, 1024 * 1024 + 1), /message frame of 1048577/],
    ['an empty message', head(FrameType.message, 0), /message frame of 0/],
    ['a long piece of data', head(FrameType.data, 256 * 1024 + 1), /data frame of 262145/],
    ['an end with a payload', head(FrameType.end, 1), /end frame of 1/],
    ['a credit of 3 bytes', head(FrameType.credit, 3), /credit frame of 3/],
    ['4 GiB', Uint8Array.from([255, 255, 255, 255, 1, 0, 0, 0, 0]), /message frame of 4294967290/],
  ];
  for (const [name, bytes, message] of cases) {
    t.throws(() => reader().reader.push(bytes), { name: 'FrameError', message }, name);
  }
});

t.test('a type without a handler does not belong on the port', async (t) => {
  const log = new FrameReader({ log: () => {} });
  log.push(encodeFrame(FrameType.log, 0, new Uint8Array(3)));
  t.throws(() => log.push(encodeFrame(FrameType.message, 0, new Uint8Array(3))), /type 1 does not belong/);
});
