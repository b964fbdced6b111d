/** Any bytes from the bus: packets and bodies, or the named error; no crash, no hang, no growth. */
import { deflateSync } from 'node:zlib';
import t from 'tap';
import { decodeBody, encodeBody } from '../../host/gsb/body.ts';
import { decodeFlex } from '../../host/gsb/flexbuffers/decode.ts';
import { encodeFlex } from '../../host/gsb/flexbuffers/encode.ts';
import { encodePacket, type Packet, PacketDecoder } from '../../host/gsb/packet.ts';
import { isYavmError } from '../../host/lib/errors.ts';
import { meaning } from '../lib/flex-meaning.ts';
import { noRecordings, readRecording, recordingNames } from '../lib/gsb-recordings.ts';
import { connectTo, startRouter } from '../lib/gsb-router.ts';
import { FLEX_VECTORS } from '../lib/gsb-vectors.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

/** Memory that mutated input may cost at its peak, bytes, the engine's own garbage included. */
const MOST_GROWTH = 250e6;

const bodies = FLEX_VECTORS.map(({ hex }) => Buffer.from(hex, 'hex'));
const frames = validFrames();

function validFrames(): Uint8Array[] {
  const made = bodies.map((body, index): Packet => {
    const data = index % 3 === 0 ? deflateSync(body) : body;
    if (index % 2 === 0) return { kind: 'callReply', requestId: 'r', code: 0, replyType: 'partial', data };
    return { kind: 'callRequest', caller: 'local', address: '/a/B', requestId: 'r', data, noReply: false };
  });
  if (noRecordings) return made.map(encodePacket);
  const recorded = recordingNames().flatMap((name) => readRecording(name).map(({ frame }) => frame ?? []));
  return [...made.map(encodePacket), ...recorded.filter((frame) => frame instanceof Uint8Array)];
}

/** Mostly with a length that is right, since otherwise the length is all that is looked at. */
function mutatedFrame(): Uint8Array {
  const bytes = random.mutate(random.pick(frames), random.between(1, 5));
  if (bytes.length < 4 || random.chance(4)) return bytes;
  Buffer.from(bytes.buffer).writeUInt32BE(bytes.length - 4);
  return bytes;
}

/** Runs `decode`; true: it worked, false: it failed with `code`. @throws whatever else came */
function survives(code: string, decode: () => void): boolean {
  try {
    decode();
    return true;
  } catch (error) {
    if (isYavmError(error) && error.code === code) return false;
    throw error;
  }
}

/** What decodes is written again, and means the same then. */
function roundTrip(body: Uint8Array): void {
  const value = decodeFlex(body);
  const again = decodeFlex(encodeFlex(value), { values: Number.MAX_SAFE_INTEGER });
  if (JSON.stringify(meaning(again)) !== JSON.stringify(meaning(value))) {
    throw new Error(`${Buffer.from(body).toString('hex')} changed its meaning`);
  }
}

function grown(before: number): string | null {
  const growth = process.memoryUsage().rss - before;
  return growth < MOST_GROWTH ? null : `${(growth / 1e6).toFixed()} MB more memory`;
}

t.test('mutated frames, their bodies included', async (t) => {
  const rounds = count(1_000_000);
  const before = process.memoryUsage().rss;
  let packets = 0;
  let refused = 0;
  for (let round = 0; round < rounds; round++) {
    const bytes = mutatedFrame();
    const decoder = new PacketDecoder();
    const whole = survives('YAVM_E_GSB_FRAME', () => {
      for (const packet of decoder.push(bytes)) {
        packets++;
        if (!('data' in packet)) continue;
        if (!survives('YAVM_E_GSB_BODY', () => decodeBody(packet.data))) refused++;
      }
    });
    if (!whole) refused++;
    if (decoder.held > bytes.length) throw new Error('it holds more than it got');
  }
  t.ok(packets > rounds / 5 && refused > rounds / 10, `${packets} packets, ${refused} refused`);
  t.equal(grown(before), null);
});

t.test('mutated bodies', async (t) => {
  const rounds = count(500_000);
  const before = process.memoryUsage().rss;
  let refused = 0;
  for (let round = 0; round < rounds; round++) {
    const bytes = random.mutate(random.pick(bodies), random.between(1, 4));
    if (!survives('YAVM_E_GSB_BODY', () => roundTrip(bytes))) refused++;
  }
  t.ok(refused > rounds / 10 && refused < rounds, `${refused} of ${rounds} refused`);
  t.equal(grown(before), null);
});

t.test('random bytes', async (t) => {
  const rounds = count(200_000);
  for (let round = 0; round < rounds; round++) {
    const bytes = random.bytes(random.between(0, 200));
    survives('YAVM_E_GSB_BODY', () => decodeBody(bytes));
    survives('YAVM_E_GSB_FRAME', () => {
      for (const _ of new PacketDecoder().push(bytes));
    });
  }
  t.pass(`${rounds} rounds`);
});

t.test('every call with a mutated body is answered', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/a/Echo', { unary: (body) => body });
  await gsb.bind('/a/Stream', {
    stream: async function* (body) {
      yield body;
    },
  });
  const connection = await router.connection();
  const rounds = count(20_000);
  for (let round = 0; round < rounds; round++) {
    const address = random.pick(['/a/Echo', '/a/Stream', '/a/Unknown']);
    const raw = random.mutate(random.pick(bodies));
    connection.call(address, { raw }, `r${round}`);
    let reply = await connection.take('callReply');
    if (reply.replyType === 'partial') reply = await connection.take('callReply');
    if (reply.requestId !== `r${round}`) throw new Error(`${reply.requestId} instead of r${round}`);
  }
  connection.call('/a/Echo', { raw: encodeBody('as before') }, 'last');
  t.equal(decodeBody((await connection.take('callReply')).data) !== null, true);
  t.equal(router.connections.length, 1, 'on the same connection');
});
