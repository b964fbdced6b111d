/** Raw frames as bytes: written, recognised, cut from a stream. */
import t from 'tap';
import { BytesCache } from '../../host/gsb/bytes-cache.ts';
import type { FrameBatch } from '../../host/gsb/frame-batch.ts';
import { FrameWriter } from '../../host/gsb/frame-pusher.ts';
import { decodePacket, encodePacket, type Packet } from '../../host/gsb/packet.ts';
import { PacketCutter } from '../../host/gsb/packet-cutter.ts';
import { RawCall } from '../../host/gsb/raw-call.ts';
import { callRequest } from '../lib/gsb-peer.ts';
import { noRecordings, readRecording } from '../lib/gsb-recordings.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const NODE = `0x${'ab'.repeat(20)}`;
const ADDRESS = `/udp/net/${NODE}/vpn/net1/raw`;
const text = (data: Uint8Array) => Buffer.from(data).toString();

const push = (data: string, fields: object = {}) =>
  callRequest('/public/vpn/net1/raw', data, { caller: NODE, noReply: true, ...fields });

/** Memory that takes whatever is put in. */
function memoryFor(size: number): { batch: FrameBatch; written(): Buffer } {
  let used = 0;
  const buffer = Buffer.alloc(size);
  const batch = {
    buffer,
    reserve: (size: number) => (used + size > buffer.length ? -1 : used),
    commit: (size: number) => {
      used += size;
    },
  };
  return { batch: batch as unknown as FrameBatch, written: () => buffer.subarray(0, used) };
}

function frameOf(writer: FrameWriter, data: Uint8Array, offset = 0, length = data.length): Buffer {
  const { batch, written } = memoryFor(length + 4096);
  writer.write(data, offset, length, batch);
  return written();
}

t.test('what is pushed is what the encoder makes of it, byte for byte', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const sizes = [0, 1, 48, 49, 127, 128, 16_383, 16_384, 65_535, 65_536];
  for (let round = 0; round < count(1000); round++) sizes.push(random.between(0, 65_537));
  const call = new RawCall();
  const ids = new Set<string>();
  const writer = new FrameWriter(ADDRESS, NODE);
  for (const size of sizes) {
    const data = random.bytes(size + 20);
    const frame = frameOf(writer, data, 7, size);
    const packet = decodePacket(frame.subarray(4));
    if (packet.kind !== 'callRequest') throw new Error(packet.kind);
    ids.add(packet.requestId);
    const { caller, address, noReply, requestId } = packet;
    if (caller !== NODE || address !== ADDRESS || !noReply || requestId.length !== 36) t.fail('fields');
    if (Buffer.compare(packet.data, data.subarray(7, 7 + size)) !== 0) t.fail(`${size} bytes`);
    if (Buffer.compare(encodePacket(packet), frame) !== 0) t.fail(`${size} bytes differ from the encoder's`);
    if (!call.find(frame, 4, frame.length) || call.dataEnd - call.dataStart !== size || !call.noReply) {
      t.fail(`${size} bytes are not recognised`);
    }
  }
  t.equal(ids.size, sizes.length, 'each has an id of its own');
  t.match(decodePacket(frameOf(new FrameWriter(ADDRESS, ''), Buffer.alloc(3)).subarray(4)), { caller: '' });
  t.end();
});

t.test('ids count on, digit for digit', (t) => {
  const writer = new FrameWriter('/a', 'me');
  const ids: string[] = [];
  for (let index = 0; index < 5000; index++) {
    const packet = decodePacket(frameOf(writer, Buffer.alloc(1)).subarray(4));
    if (packet.kind === 'callRequest') ids.push(packet.requestId);
  }
  const numbers = ids.map((id) => Number.parseInt(id.slice(24), 16));
  t.same(
    numbers,
    ids.map((_, index) => index + 1),
  );
  t.equal(new Set(ids.map((id) => id.slice(0, 24))).size, 1);
  t.end();
});

t.test(
  'recorded frames of upstream are recognised, and are what the encoder makes',
  { skip: noRecordings },
  (t) => {
    const call = new RawCall();
    let frames = 0;
    for (const name of ['vpn', 'yagna-vpn']) {
      for (const { frame } of readRecording(name)) {
        const packet = frame && decodePacket(frame.subarray(4));
        if (frame === undefined || packet?.kind !== 'callRequest') continue;
        t.equal(call.find(frame, 4, frame.length), true);
        t.equal(call.noReply, packet.noReply);
        t.same(Buffer.from(frame.subarray(call.dataStart, call.dataEnd)), Buffer.from(packet.data));
        t.equal(text(frame.subarray(call.idStart, call.idEnd)), packet.requestId);
        if (!packet.noReply) continue;
        frames++;
        t.same(Buffer.from(encodePacket(packet)), Buffer.from(frame));
        const own = decodePacket(
          frameOf(new FrameWriter(packet.address, packet.caller), packet.data).subarray(4),
        );
        const { requestId, ...rest } = packet;
        t.match(own, { ...rest, data: Buffer.from(rest.data) });
      }
    }
    t.ok(frames > 0, `${frames} frames`);
    t.end();
  },
);

t.test('what is recognised means what the decoder says; what is not goes the other way', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const call = new RawCall();
  let recognised = 0;
  for (let round = 0; round < count(200_000); round++) {
    const packet = push('x'.repeat(random.between(0, 40)), {
      noReply: random.chance(2),
    });
    const frame = random.mutate(encodePacket(packet).subarray(4), 3);
    if (!call.find(frame, 0, frame.length)) continue;
    let decoded: Packet;
    try {
      decoded = decodePacket(frame);
    } catch (error) {
      // Only that a text is none is found out later.
      if (/UTF-8/.test(String(error))) continue;
      throw error;
    }
    if (decoded.kind !== 'callRequest') throw new Error(decoded.kind);
    recognised++;
    const [id, data] = [
      frame.subarray(call.idStart, call.idEnd),
      frame.subarray(call.dataStart, call.dataEnd),
    ];
    if (text(id) !== decoded.requestId || Buffer.compare(data, decoded.data) !== 0) t.fail('id or data');
    if (call.noReply !== decoded.noReply) t.fail('noReply');
    const again = encodePacket({ ...decoded, requestId: 'x', data: Buffer.alloc(0) });
    const key = frame.subarray(call.keyStart, call.keyEnd);
    if (!Buffer.from(again).includes(Buffer.from(key))) {
      // Lengths may be written in more bytes than they need.
      if (key.length <= decoded.caller.length + decoded.address.length + 4) t.fail('caller and address');
    }
  }
  t.ok(recognised > 0, `${recognised} recognised`);
  t.end();
});

t.test('packets are cut alike however the bytes come, from memory that is used again', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const packets = Array.from({ length: count(2000) }, (_, index) =>
    push(`${index} ${'x'.repeat(random.between(0, random.chance(20) ? 70_000 : 2000))}`),
  );
  const stream = Buffer.concat(packets.map(encodePacket));
  const cutter = new PacketCutter({ volatile: true });
  const memory = Buffer.alloc(8192);
  const kept: Uint8Array[] = [];
  let whole = 0;
  for (let at = 0; at < stream.length; ) {
    const size = random.between(1, random.chance(3) ? 8 : memory.length + 1);
    cutter.feed(memory, stream.copy(memory, 0, at, at + size));
    at += size;
    while (cutter.next()) {
      if (random.chance(2)) kept.push(cutter.keep());
      else kept.push(Uint8Array.from(cutter.bytes.subarray(cutter.start, cutter.end)));
      whole++;
    }
    memory.fill(0xee);
  }
  t.equal(whole, packets.length);
  t.equal(cutter.held, 0);
  for (const [index, frame] of kept.entries()) {
    if (Buffer.compare(encodePacket(packets[index] as Packet).subarray(4), frame) !== 0)
      t.fail(`packet ${index}`);
  }
  t.end();
});

t.test('the cache of bytes: bounded, and never wrong', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const cache = new BytesCache<string>();
  const keys = Array.from({ length: 2000 }, (_, index) =>
    Buffer.from(`key ${index} ${'y'.repeat(index % 90)}`),
  );
  let found = 0;
  for (let round = 0; round < 20_000; round++) {
    const key = random.pick(keys);
    const [bytes, start] = [Buffer.concat([Buffer.from('..'), key, Buffer.from('...')]), 2];
    const value = cache.get(bytes, start, start + key.length);
    if (value === undefined) cache.set(bytes, start, start + key.length, key.toString());
    else if (value !== key.toString()) t.fail(`${value} for ${key}`);
    else found++;
    bytes.fill(0);
  }
  t.ok(found > 100 && found < 19_000, `${found} found`);
  const long = Buffer.alloc(2000);
  cache.set(long, 0, 2000, 'long');
  t.equal(cache.get(long, 0, 2000), undefined);
  t.end();
});
