import t from 'tap';
import { encodePacket, MAX_PACKET, type Packet, PacketDecoder } from '../../host/gsb/packet.ts';
import { noRecordings, readRecording, recordingNames } from '../lib/gsb-recordings.ts';
import { Random } from '../lib/random.ts';

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');
const decode = (data: Uint8Array, most?: number) => [...new PacketDecoder(most).push(data)];

/** Exe-unit.md 1.3, byte for byte. */
const FRAMES: [Packet, string][] = [
  [
    {
      kind: 'hello',
      name: 'sb-client',
      version: '0.7.3',
      instanceId: bytes('000102030405060708090a0b0c0d0e0f'),
    },
    '00000026 0a240a0973622d636c69656e741205302e372e331a10000102030405060708090a0b0c0d0e0f',
  ],
  [
    { kind: 'registerRequest', serviceId: '/public/exeunit/a1' },
    '00000016 12140a122f7075626c69632f657865756e69742f6131',
  ],
  [{ kind: 'registerReply', code: 0, message: '' }, '00000002 1a00'],
  [{ kind: 'registerReply', code: 409, message: '' }, '00000005 1a03089903'],
  [
    { kind: 'unregisterRequest', serviceId: '/public/exeunit/a1' },
    '00000016 22140a122f7075626c69632f657865756e69742f6131',
  ],
  [{ kind: 'unregisterReply', code: 0 }, '00000002 2a00'],
  [{ kind: 'ping' }, '00000002 7200'],
  [{ kind: 'pong' }, '00000002 7a00'],
  [
    {
      kind: 'callReply',
      requestId: '4503599627370495',
      code: 0,
      replyType: 'full',
      data: bytes('4f6b0001040101010000022401'),
    },
    '00000023 3a210a1034353033353939363237333730343935220d4f6b0001040101010000022401',
  ],
  [
    { kind: 'callReply', requestId: '42', code: 0, replyType: 'partial', data: bytes('aa') },
    '0000000b 3a090a02343218012201aa',
  ],
  [
    { kind: 'callReply', requestId: '42', code: 0, replyType: 'full', data: bytes('') },
    '00000006 3a040a023432',
  ],
  [
    {
      kind: 'callReply',
      requestId: '42',
      code: 400,
      replyType: 'full',
      data: Buffer.from('endpoint address not found'),
    },
    '00000025 3a230a023432109003221a656e64706f696e742061646472657373206e6f7420666f756e64',
  ],
];

/** One of each kind, every field set. */
const ALL: Packet[] = [
  ...FRAMES.map(([packet]) => packet),
  {
    kind: 'callRequest',
    caller: '0xab',
    address: '/a/b',
    requestId: 'r',
    data: bytes('0102'),
    noReply: true,
  },
  { kind: 'unregisterReply', code: 404 },
  { kind: 'subscribeRequest', topic: 't' },
  { kind: 'subscribeReply', code: 400, message: 'm' },
  { kind: 'unsubscribeRequest', topic: 't' },
  { kind: 'unsubscribeReply', code: 404 },
  { kind: 'broadcastRequest', caller: 'c', data: bytes('ff'), topic: 't' },
  { kind: 'broadcastReply', code: 400, message: 'm' },
];

t.test('frames are those of the specification, both ways', async (t) => {
  for (const [packet, frame] of FRAMES) {
    t.equal(hex(encodePacket(packet)), frame.replaceAll(' ', ''), packet.kind);
    t.match(decode(bytes(frame)), [packet]);
  }
});

t.test('every kind comes back as it was, however the bytes are cut', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const stream = Buffer.concat(ALL.map(encodePacket));
  for (const size of [1, 2, 3, 5, 7, 64, stream.length]) {
    const decoder = new PacketDecoder();
    const packets: Packet[] = [];
    for (let at = 0; at < stream.length; at += size) {
      packets.push(...decoder.push(stream.subarray(at, at + size)));
    }
    t.match(packets, ALL, `pieces of ${size}`);
    t.equal(packets.length, ALL.length);
    t.equal(decoder.held, 0);
  }
  for (let round = 0; round < 50; round++) {
    const decoder = new PacketDecoder();
    const packets: Packet[] = [];
    for (let at = 0; at < stream.length; ) {
      const size = random.between(1, 60);
      packets.push(...decoder.push(stream.subarray(at, at + size)));
      at += size;
    }
    if (packets.length !== ALL.length) t.fail(`${packets.length} packets of ${ALL.length}`);
  }
});

t.test('large data is carried, and held without waste', async (t) => {
  const data = new Random(1).bytes(5_000_000);
  const packet: Packet = {
    kind: 'callReply',
    requestId: 'big',
    code: 500,
    replyType: 'partial',
    data,
  };
  const frame = encodePacket(packet);
  const decoder = new PacketDecoder();
  const packets: Packet[] = [];
  for (let at = 0; at < frame.length; at += 65536)
    packets.push(...decoder.push(frame.subarray(at, at + 65536)));
  const [got] = packets;
  t.ok(got?.kind === 'callReply' && Buffer.compare(got.data, data) === 0 && got.code === 500);
});

t.test('who announces much has to send it before it costs anything', async (t) => {
  const decoder = new PacketDecoder();
  const before = process.memoryUsage().arrayBuffers;
  t.same([...decoder.push(bytes('03ffffff 0102'))], []);
  t.ok(process.memoryUsage().arrayBuffers - before < 100_000);
  // Byte by byte, as the meanest do.
  for (let sent = 0; sent < 100_000; sent++) for (const _ of decoder.push(bytes('00'))) t.fail('a packet');
  t.ok(process.memoryUsage().arrayBuffers - before < 2_000_000, 'a few times what was sent, at most');
});

const BAD: [string, string, RegExp][] = [
  ['an empty packet', '00000000', /empty or of an unknown kind/],
  ['an unknown member', '00000003 8201 00', /empty or of an unknown kind/],
  ['more than is accepted', '04000001', /67108865 bytes are announced, 67108864 are accepted/],
  ['the largest length', 'ffffffff', /4294967295 bytes/],
  ['an unknown code', '00000005 1a03 08e707', /registerReply.code is 999/],
  ['a negative code', '0000000d 1a0b 08ffffffffffffffffff01', /registerReply.code is/],
  ['an unknown reply type', '00000004 3a02 1802', /callReply.replyType is 2/],
  ['a text that is not UTF-8', '00000005 1203 0a01ff', /registerRequest.serviceId is not UTF-8/],
  ['half a surrogate pair', '00000007 1205 0a03eda080', /is not UTF-8/],
  ['a member that is a number', '00000002 1000', /registerRequest has the wire type 0/],
  ['a text that is a number', '00000004 1202 0801', /registerRequest.serviceId has the wire type 0/],
  ['a number that is a text', '00000005 1a03 0a0161', /registerReply.code has the wire type 2/],
  ['a member beyond the frame', '00000002 1205', /not a packet/],
  ['a field beyond the member', '00000004 1202 0a05', /not a packet/],
  ['half a varint', '00000001 92', /not a packet/],
  ['field number 0', '00000004 1202 0200', /not a packet/],
  ['a group that does not end', '00000004 1202 2b2b', /not a packet/],
  ['a wire type that does not exist', '00000003 1201 2f', /not a packet/],
];

for (const [what, frame, message] of BAD) {
  t.test(`refused: ${what}`, async (t) => {
    t.throws(() => decode(bytes(frame)), { code: 'YAVM_E_GSB_FRAME', message });
  });
}

t.test('what newer peers may add is skipped', async (t) => {
  t.match(decode(bytes('00000008 1206 0a0161 320162')), [{ kind: 'registerRequest', serviceId: 'a' }]);
  t.match(
    decode(bytes('00000006 820101aa 7200')),
    [{ kind: 'ping' }],
    'an unknown member beside a known one',
  );
  t.match(
    decode(bytes('00000004 7200 7a00')),
    [{ kind: 'pong' }],
    'of several members of a oneof the last one counts',
  );
});

t.test('half a surrogate pair never leaves', async (t) => {
  const [packet] = decode(encodePacket({ kind: 'subscribeRequest', topic: 'a\ud800b' }));
  t.match(packet, { topic: 'a\ufffdb' });
});

t.test('the limit is the caller’s', async (t) => {
  t.equal(MAX_PACKET, 64 * 1024 * 1024);
  t.throws(() => decode(bytes('00000002 7200'), 1), { code: 'YAVM_E_GSB_FRAME' });
});

t.test('every recorded frame decodes and comes out as the same bytes', { skip: noRecordings }, async (t) => {
  let frames = 0;
  for (const name of recordingNames()) {
    for (const { frame } of readRecording(name)) {
      if (frame === undefined) continue;
      const packets = decode(frame);
      if (packets.length !== 1 || Buffer.compare(encodePacket(packets[0] as Packet), frame) !== 0) {
        t.fail(`${name}: ${hex(frame)}`);
      }
      frames++;
    }
  }
  t.ok(frames > 2000, `${frames} frames`);
});
