import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { type Logger, silentLogger } from '../../host/lib/logger.ts';
import type { AddressKey } from '../../host/network/vpn/address-key.ts';
import { placeOf } from '../../host/network/vpn/siblings-lock.ts';
import {
  encodeMessage,
  type FrameKind,
  KIND,
  type Message,
  messagesOfChange,
  WireDecoder,
} from '../../host/network/vpn/siblings-wire.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import { keyOf, NETWORK, openSibling, type TestSibling, until } from '../lib/sibling.ts';
import { arpFrame, ipv4Frame } from '../lib/sibling-frames.ts';

type Test = { teardown(fn: () => void | Promise<void>): void };

// ---------------------------------------------------------------- the codec

/** A frame as it travels. */
function wireFrame(kind: number, to: Uint8Array, frame: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(1 + to.length + frame.length);
  head[4] = kind;
  return Buffer.concat([head, to, frame]);
}

interface Taken {
  messages: Message[];
  frames: [FrameKind, AddressKey | null, string][];
}

function decoder(): { wire: WireDecoder; taken: Taken } {
  const taken: Taken = { messages: [], frames: [] };
  const wire = new WireDecoder({
    onMessage: (message) => taken.messages.push(message),
    onFrame: (kind, to, bytes, offset, length) =>
      taken.frames.push([kind, to, Buffer.from(bytes.subarray(offset, offset + length)).toString('hex')]),
  });
  return { wire, taken };
}

const CHANGE: Message = { type: 'change', change: { kind: 'remove', nodeIds: ['0x12'] } };
const MESSAGES: Message[] = [
  { type: 'hello', version: 1, addresses: ['10.5.0.2', 'fd00::2'] },
  { type: 'state', here: ['10.5.0.2', '10.5.0.3'], granted: [] },
  { type: 'refused', reason: 'no' },
  CHANGE,
];

t.test('frames and messages come through, however the stream is cut', (t) => {
  const random = new Random();
  const frame = ipv4Frame('10.5.0.2', '10.5.0.3', 1234, 9);
  const hex = Buffer.from(frame).toString('hex');
  const large = ipv4Frame('10.5.0.2', '10.5.0.3', 65_535, 3);
  const stream = Buffer.concat([
    ...MESSAGES.slice(0, 2).map(encodeMessage),
    wireFrame(KIND.frame, new Uint8Array(0), frame),
    wireFrame(KIND.toIpv4, Uint8Array.of(10, 5, 0, 3), frame),
    wireFrame(KIND.toIpv6, Uint8Array.of(0xfd, ...new Array(14).fill(0), 3), large),
    ...MESSAGES.slice(2).map(encodeMessage),
    wireFrame(KIND.toAll, new Uint8Array(0), frame.subarray(0, 14)),
  ]);
  const expected: Taken = {
    messages: MESSAGES,
    frames: [
      [KIND.frame, null, hex],
      [KIND.toIpv4, keyOf('10.5.0.3'), hex],
      [KIND.toIpv6, keyOf('fd00::3'), Buffer.from(large).toString('hex')],
      [KIND.toAll, null, hex.slice(0, 28)],
    ],
  };
  const cuts = [1, 2, 3, 4, 5, 6, 7, stream.length];
  for (const cut of [...cuts, ...Array.from({ length: count(200) }, () => random.between(8, 5000))]) {
    const { wire, taken } = decoder();
    // One buffer for all reads, as a socket has it, with leftovers of the read before behind the end.
    const buffer = Buffer.alloc(stream.length);
    for (let at = 0; at < stream.length; at += cut) {
      const part = stream.subarray(at, at + cut);
      buffer.set(part);
      wire.push(buffer, part.length);
    }
    if (!t.strictSame(taken, expected, `pieces of ${cut} bytes, seed ${random.seed}`)) break;
  }
  t.end();
});

const header = (length: number, kind: number) => {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt32BE(length);
  bytes[4] = kind;
  return bytes;
};
const json = (value: unknown) => {
  const text = Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
  return Buffer.concat([header(1 + text.length, KIND.message), text]);
};
const GARBAGE: [string, Buffer][] = [
  ['text', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ['no length', header(0, KIND.frame)],
  ['a short frame', header(14, KIND.frame)],
  ['a short frame behind an address', header(1 + 4 + 13, KIND.toIpv4)],
  ['a long frame', header(1 + 65_536, KIND.frame)],
  ['a long message', header(2 + 256 * 1024, KIND.message)],
  ['4 GiB', header(0xffffffff, KIND.message)],
  ['an unknown kind', header(100, 3)],
  ['no JSON', json('{')],
  ['no UTF-8', Buffer.concat([header(2, KIND.message), Buffer.of(0xff)])],
  ['null', json(null)],
  ['a list', json([])],
  ['no type', json({})],
  ['another type', json({ type: 'constructor' })],
  ['no version', json({ type: 'hello', addresses: [] })],
  ['no addresses', json({ type: 'hello', version: 1 })],
  ['no list', json({ type: 'hello', version: 1, addresses: { length: 1 } })],
  ['no text', json({ type: 'hello', version: 1, addresses: [1] })],
  ['no address', json({ type: 'hello', version: 1, addresses: ['10.5.0.300'] })],
  ['65 addresses', json({ type: 'hello', version: 1, addresses: new Array(65).fill('10.5.0.2') })],
  ['no granted', json({ type: 'state', here: [] })],
  ['no reason', json({ type: 'refused' })],
  ['no change', json({ type: 'change' })],
  ['another change', json({ type: 'change', change: { kind: 'clear' } })],
  ['no nodes', json({ type: 'change', change: { kind: 'add', nodes: [] } })],
  ['a node without a text', json({ type: 'change', change: { kind: 'add', nodes: { '10.5.0.2': {} } } })],
  [
    'a long address',
    json({ type: 'change', change: { kind: 'learn', nodes: { ['1'.repeat(129)]: '0x1' } } }),
  ],
  ['a long node id', json({ type: 'change', change: { kind: 'remove', nodeIds: ['0'.repeat(129)] } })],
  ['1025 nodes', json({ type: 'change', change: { kind: 'remove', nodeIds: new Array(1025).fill('0') } })],
];

t.test('what is no frame and no message is refused, as soon as it can be told', (t) => {
  for (const [what, bytes] of GARBAGE) {
    const { wire, taken } = decoder();
    t.throws(() => wire.push(bytes, bytes.length), { code: /^YAVM_E_NET_(SIBLINGS|ADDRESS)$/ }, what);
    t.strictSame(taken, { messages: [], frames: [] });
  }
  const random = new Random();
  const stream = Buffer.concat(MESSAGES.map(encodeMessage));
  for (let round = 0; round < count(20_000); round++) {
    const bytes = random.mutate(stream);
    try {
      decoder().wire.push(bytes, bytes.length);
    } catch (error) {
      if (!t.match(error, { code: /^YAVM_E_NET_/ }, `seed ${random.seed}`)) break;
    }
  }
  t.end();
});

t.test('a change that no sibling would take is not sent', (t) => {
  t.strictSame(messagesOfChange({ kind: 'remove', nodeIds: ['0'.repeat(129), '0x12'] }), [CHANGE]);
  const nodes = { '10.5.0.2': '0x1', x: '0'.repeat(129), '10.5.0.3': '0x1' };
  t.strictSame(messagesOfChange({ kind: 'add', nodes }), [
    { type: 'change', change: { kind: 'add', nodes: { '10.5.0.2': '0x1' } } },
  ]);
  t.strictSame(messagesOfChange({ kind: 'learn', nodes: { [`1${'0'.repeat(128)}`]: '0x1' } }), []);
  t.end();
});

// ---------------------------------------------------------------- the owner, and somebody who does not keep to the rules

interface Stranger {
  socket: Socket;
  /** Bytes that came. */
  received: number;
  ended: boolean;
}

async function ownerOf(
  t: Test,
  logger: Logger = silentLogger,
): Promise<{ folder: string; owner: TestSibling }> {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-siblings-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const owner = openSibling(folder, '10.5.0.2', { logger });
  t.teardown(() => owner.siblings.close());
  await until(() => owner.siblings.role === 'owner', 'the owner');
  return { folder, owner };
}

async function stranger(t: Test, folder: string, first: Uint8Array = new Uint8Array(0)): Promise<Stranger> {
  const { socket: path } = placeOf({ folder, addresses: [], ...NETWORK });
  const socket = connect(path);
  const result: Stranger = { socket, received: 0, ended: false };
  socket.on('data', (bytes) => {
    result.received += bytes.length;
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    result.ended = true;
  });
  t.teardown(() => void socket.destroy());
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  socket.write(first);
  return result;
}

const hello = (address: string, version = 1) =>
  encodeMessage({ type: 'hello', version, addresses: [address] });

t.test('garbage ends the connection that it came by, and no other', async (t) => {
  const { folder, owner } = await ownerOf(t);
  const friend = openSibling(folder, '10.5.0.3');
  t.teardown(() => friend.siblings.close());
  await until(() => friend.siblings.role === 'sibling', 'a sibling');
  const frame = Buffer.from(ipv4Frame('10.5.0.4', '10.5.0.2'));
  const bad: [string, Buffer][] = [
    ...GARBAGE,
    ...GARBAGE.map(([what, bytes]): [string, Buffer] => [
      `${what}, after a hello`,
      Buffer.concat([hello('10.5.0.4'), bytes]),
    ]),
    ['two hellos', Buffer.concat([hello('10.5.0.4'), hello('10.5.0.4')])],
    ['a frame before the hello', wireFrame(KIND.toIpv4, Uint8Array.of(10, 5, 0, 2), frame)],
    [
      'a frame without an address',
      Buffer.concat([hello('10.5.0.4'), wireFrame(KIND.frame, new Uint8Array(0), frame)]),
    ],
    ['what owners say', Buffer.concat([hello('10.5.0.4'), encodeMessage(CHANGE)])],
    ['another version', hello('10.5.0.4', 2)],
  ];
  for (const [what, bytes] of bad) {
    const guest = await stranger(t, folder, bytes);
    await until(() => guest.ended, what);
  }
  await until(() => owner.siblings.local.size === 1, 'all of them to be forgotten');
  t.strictSame(owner.frames, []);
  t.strictSame(owner.changes, []);
  t.ok(owner.send('10.5.0.3', ipv4Frame('10.5.0.2', '10.5.0.3')));
  await until(() => friend.frames.length === 1, 'a frame to the sibling');
  t.strictSame(friend.roles, ['sibling'], 'which noticed nothing');
});

t.test('who does not read gets a bounded queue, and the others get theirs', async (t) => {
  const { folder, owner } = await ownerOf(t);
  const friend = openSibling(folder, '10.5.0.3');
  t.teardown(() => friend.siblings.close());
  const slow = await stranger(t, folder, hello('10.5.0.4'));
  await until(() => owner.siblings.local.size === 2 && slow.received > 0, 'both');
  slow.socket.pause();
  const frame = ipv4Frame('10.5.0.2', '10.5.0.4', 1234);
  let taken = 0;
  let refused = 0;
  while (refused < 100) {
    if (owner.send('10.5.0.4', frame)) taken++;
    else refused++;
    owner.siblings.flush();
    await new Promise(setImmediate);
  }
  // What the kernel's buffers hold is beyond it: 2 × 212,992 bytes by default.
  t.ok(taken * frame.length < 1024 * 1024 + 2 * 1024 * 1024, `${taken} frames were taken`);
  t.equal(owner.siblings.dropped.room, 100);
  t.ok(owner.send('10.5.0.3', ipv4Frame('10.5.0.2', '10.5.0.3')));
  owner.broadcast(arpFrame('10.5.0.2', '10.5.0.3'));
  await until(() => friend.frames.length === 2, 'frames to the other');
  const before = slow.received;
  slow.socket.resume();
  await until(() => slow.received >= before + taken * (frame.length + 5), 'what was taken');
  t.ok(owner.send('10.5.0.4', frame), 'there is room again');
  // Messages are not dropped: who does not take them has to go.
  slow.socket.pause();
  const nodes = Object.fromEntries(
    Array.from({ length: 1000 }, (_, index) => [`10.6.1.${index & 255}`, 'x'.repeat(128)]),
  );
  for (let round = 0; round < 200; round++) {
    owner.siblings.change({ kind: 'add', nodes });
    await new Promise(setImmediate);
  }
  await until(() => owner.siblings.local.size === 1, 'it to be put out');
  t.ok(friend.changes.length === 200);
});

t.test('more than 64 siblings are refused, and the log says so', async (t) => {
  const warnings: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    warn: (_: object | string, text?: string) => void warnings.push(String(text)),
    child: () => logger,
  };
  const { folder, owner } = await ownerOf(t, logger);
  const all: Stranger[] = [];
  for (let index = 0; index < 64; index++) all.push(await stranger(t, folder, hello(`10.5.1.${index}`)));
  await until(() => owner.siblings.local.size === 64, 'all');
  const late = await stranger(t, folder, hello('10.5.2.1'));
  await until(() => late.ended, 'one more');
  t.match(warnings, [/too many VMs/]);
  owner.broadcast(arpFrame('10.5.0.2', '10.5.0.3'));
  all[0]?.socket.destroy();
  await until(() => owner.siblings.local.size === 63, 'one to leave');
  await stranger(t, folder, hello('10.5.2.1'));
  await until(() => owner.siblings.local.has('10.5.2.1'), 'another in its place');
});
