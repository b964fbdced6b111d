/** Any bytes as a message: only the errors that both sides expect, and no time or memory beyond the message's size. */
import t from 'tap';
import { CborError } from '../../guest/protocol/cbor.ts';
import { ValidationError } from '../../guest/protocol/check.ts';
import {
  decodeGuestMessage,
  decodeRequest,
  encodeMessage,
  RequestError,
} from '../../guest/protocol/codec.ts';
import { decodeCredit, encodeFrame, FrameDecoder, FrameError } from '../../guest/protocol/frames.ts';
import type { Reply, Request } from '../../guest/protocol/messages.ts';
import { tookAtMost } from '../lib/in-time.ts';
import { notificationExamples, requestExamples } from '../lib/messages.ts';
import { Random } from '../lib/random.ts';

const ROUNDS = Number(process.env.YAVM_FUZZ_ROUNDS) || 20_000;
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED), ${ROUNDS} rounds (YAVM_FUZZ_ROUNDS)`);

const requestBytes = Object.values(requestExamples).map((body) =>
  Uint8Array.from(encodeMessage({ ...body, id: 9 } as Request)),
);
const guestBytes = [
  ...Object.values(notificationExamples).map((event) => Uint8Array.from(encodeMessage(event))),
  Uint8Array.from(encodeMessage({ id: 1, ok: {} })),
  Uint8Array.from(encodeMessage({ id: 1, error: { code: 'internal', message: 'x' } } as Reply)),
];

t.test('requests: only RequestError', async (t) => {
  const seen = tally(requestBytes, decodeRequest, (error) => error instanceof RequestError);
  t.strictSame(seen.other, []);
  t.ok(seen.refused > ROUNDS / 10 && seen.passed > 0, `${seen.refused} refused, ${seen.passed} passed`);
});

t.test('guest messages: only CborError and ValidationError', async (t) => {
  const seen = tally(
    guestBytes,
    decodeGuestMessage,
    (error) => error instanceof CborError || error instanceof ValidationError,
  );
  t.strictSame(seen.other, []);
  t.ok(seen.refused > ROUNDS / 10 && seen.passed > 0, `${seen.refused} refused, ${seen.passed} passed`);
});

t.test('a megabyte of anything is decided quickly', async (t) => {
  const fillers = [0x80, 0x81, 0xa0, 0xa1, 0x9b, 0xbb, 0x60, 0x40, 0xd8, 0xf6, 0xfb, 0x1b];
  const began = process.cpuUsage();
  for (const filler of fillers) {
    const payload = new Uint8Array(1 << 20).fill(filler);
    t.throws(() => decodeRequest(payload), { name: 'RequestError' });
    // The same as the elements of an array that has as many as it says.
    payload.set([0x9a, 0x00, 0x0f, 0xff, 0xfb]);
    t.throws(() => decodeRequest(payload), { name: 'RequestError' });
  }
  const { user, system } = process.cpuUsage(began);
  tookAtMost(t, 'of the processor', (user + system) / 1000, 10_000);
});

t.test('frames: the same frames come out however the bytes are cut, and bad lengths end it', async (t) => {
  for (let round = 0; round < 300; round++) {
    const sent: string[] = [];
    const parts: Uint8Array[] = [];
    for (let count = random.between(1, 20); count > 0; count--) {
      const payload = random.bytes(random.pick([0, 1, 4, 5, 100, 1000]));
      const [type, stream] = [random.between(0, 256), random.next()];
      parts.push(encodeFrame(type, stream, payload));
      sent.push(`${type} ${stream} ${Buffer.from(payload).toString('hex')}`);
    }
    const received: string[] = [];
    const decoder = new FrameDecoder(1000, (frame) => {
      received.push(`${frame.type} ${frame.stream} ${Buffer.from(frame.payload).toString('hex')}`);
    });
    const whole = Buffer.concat(parts);
    for (let at = 0; at < whole.length; ) {
      const take = random.pick([1, 2, 3, 9, 10, 500, 5000]);
      decoder.push(whole.subarray(at, at + take));
      at += take;
    }
    if (sent.join('\n') !== received.join('\n')) t.fail(`round ${round} differs`);
    if (decoder.midFrame) t.fail(`round ${round} left a partial frame`);
  }
  for (let round = 0; round < ROUNDS / 10; round++) {
    const decoder = new FrameDecoder(256, (frame) => {
      if (frame.payload.length > 256) t.fail('a payload beyond the limit');
    });
    try {
      for (let chunks = 0; chunks < 5; chunks++) decoder.push(random.bytes(random.between(0, 600)));
    } catch (error) {
      if (!(error instanceof FrameError)) t.fail(String(error));
    }
  }
  t.throws(() => decodeCredit(new Uint8Array(3)), FrameError);
  t.pass('done');
});

function tally(
  seeds: Uint8Array[],
  decode: (bytes: Uint8Array) => unknown,
  expected: (error: unknown) => boolean,
): { passed: number; refused: number; other: string[] } {
  const seen = { passed: 0, refused: 0, other: [] as string[] };
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = random.chance(5) ? random.bytes(random.between(0, 64)) : random.mutate(random.pick(seeds));
    try {
      decode(bytes);
      seen.passed++;
    } catch (error) {
      if (expected(error)) seen.refused++;
      else seen.other.push(`${error} for ${Buffer.from(bytes).toString('hex')}`);
    }
  }
  return seen;
}
