/** Any bytes on the runtime's standard input: only coded errors, bounded memory, and what is whole is still understood. */
import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import { FrameDecoder, MAX_REQUEST } from '../../host/runtime-api/frames.ts';
import { BadRequest, decodeRequest, readId } from '../../host/runtime-api/wire.ts';
import { encodeRequest } from '../lib/api-client.ts';
import { tookAtMost } from '../lib/in-time.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

const FRAMES = [
  encodeRequest(2, { hello: { version: '0.1.0' } }),
  encodeRequest(3, { run: { bin: '/bin/sh', args: ['sh', '-c', 'echo ü; sleep 1'], workDir: '/x' } }),
  encodeRequest(2 ** 40, { kill: { pid: 77, signal: 15 } }),
  encodeRequest(5, { shutdown: {} }),
  encodeRequest(6, {
    network: {
      networks: [{ address: '10.0.0.0', gateway: '', mask: '255.0.0.0', interfaceAddress: '10.0.0.7' }],
      hosts: [{ key: 'db', value: '10.0.0.1' }],
      interface: 1,
    },
  }),
];

t.test('mutated frames: a request, or a coded error', async (t) => {
  const rounds = count(1_000_000);
  const seen = { requests: 0, refused: 0, broken: 0 };
  const other: string[] = [];
  const before = process.memoryUsage().rss;
  let decoder = new FrameDecoder();
  for (let round = 0; round < rounds; round++) {
    const bytes = random.chance(5)
      ? random.bytes(random.between(0, 64))
      : random.mutate(random.pick(FRAMES), 3);
    try {
      for (const frame of decoder.push(bytes)) {
        if ('tooLong' in frame) readId(frame.head);
        else decodeOne(frame.bytes, seen);
      }
    } catch (error) {
      if (isYavmError(error, 'YAVM_E_RUNTIME_FRAME')) seen.broken++;
      else other.push(`${error} for ${Buffer.from(bytes).toString('hex')}`);
      decoder = new FrameDecoder();
    }
    // A length that promises a lot swallows what follows: then another stream.
    if (decoder.partial && random.chance(3)) decoder = new FrameDecoder();
  }
  t.strictSame(other, []);
  const [least] = Object.values(seen).sort((a, b) => a - b);
  t.ok((least ?? 0) > rounds / 1000, `all kinds of ends: ${JSON.stringify(seen)}`);
  const grown = process.memoryUsage().rss - before;
  t.ok(grown < 200 * 1024 * 1024, `memory grew by ${Math.round(grown / 1024 / 1024)} MiB`);
});

function decodeOne(bytes: Uint8Array, seen: { requests: number; refused: number }): void {
  try {
    decodeRequest(bytes);
    seen.requests++;
  } catch (error) {
    if (!(error instanceof BadRequest)) throw error;
    seen.refused++;
  }
}

t.test('however a stream is cut, the same requests come out', async (t) => {
  for (let round = 0; round < count(2000); round++) {
    const sent = Array.from({ length: random.between(1, 12) }, () => random.pick(FRAMES));
    const whole = Buffer.concat(sent);
    const decoder = new FrameDecoder();
    const received: string[] = [];
    for (let at = 0; at < whole.length; ) {
      const take = random.pick([1, 2, 3, 7, 50]);
      for (const frame of decoder.push(whole.subarray(at, at + take))) {
        if ('bytes' in frame) received.push(shown(frame.bytes));
      }
      at += take;
    }
    const expected = sent.map((frame) => shown(frame.subarray(1)));
    if (received.join('\n') !== expected.join('\n')) t.fail(`round ${round}: ${received.join()}`);
    if (decoder.partial) t.fail(`round ${round} left a partial frame`);
  }
  t.pass('done');
});

function shown(bytes: Uint8Array): string {
  return JSON.stringify(decodeRequest(bytes), (_, value) => (typeof value === 'bigint' ? `${value}` : value));
}

t.test('a megabyte of anything is decided quickly', async (t) => {
  const began = process.cpuUsage();
  for (const filler of [0x00, 0x0a, 0x0b, 0x12, 0x52, 0x53, 0x7f, 0x80, 0xff]) {
    t.throws(() => decodeRequest(new Uint8Array(MAX_REQUEST).fill(filler)), { name: 'BadRequest' });
  }
  // A run with as many empty arguments as fit, and groups within groups.
  const args = new Uint8Array(MAX_REQUEST - 8).fill(0);
  for (let at = 0; at < args.length; at += 2) args[at] = 0x12;
  const run = Buffer.concat([Buffer.from([0x52]), varint(args.length), args]);
  t.ok(decodeRequest(run));
  t.throws(() => decodeRequest(new Uint8Array(MAX_REQUEST).fill(0x0b)), { name: 'BadRequest' });
  const { user, system } = process.cpuUsage(began);
  tookAtMost(t, 'of the processor', (user + system) / 1000, 10_000);
});

t.test('a length beyond the limit is passed over, without its bytes in memory', async (t) => {
  const decoder = new FrameDecoder();
  const length = 64 * 1024 * 1024;
  const chunk = new Uint8Array(64 * 1024).fill(0x41);
  const before = process.memoryUsage().arrayBuffers;
  const head = Buffer.concat([varint(length), Buffer.from([0x08, 0x2a])]);
  const frames = [...decoder.push(head)];
  for (let left = length - 2; left > 0; left -= chunk.length) {
    frames.push(...decoder.push(chunk.subarray(0, Math.min(left, chunk.length))));
  }
  t.ok(process.memoryUsage().arrayBuffers - before < 4 * 1024 * 1024);
  const [frame] = frames;
  t.match(frame, { tooLong: length });
  t.equal(frame && 'head' in frame ? readId(frame.head) : 0n, 42n, 'its number is still read');
  const [next] = [...decoder.push(FRAMES[3] as Uint8Array)];
  t.ok(next && 'bytes' in next, 'and the next one is understood');
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 0x80);
  }
}
