import { deflateSync } from 'node:zlib';
import t from 'tap';
import { decodeBody, encodeBody, MAX_BODY } from '../../host/gsb/body.ts';
import { decodeFlex } from '../../host/gsb/flexbuffers/decode.ts';
import { encodeFlex } from '../../host/gsb/flexbuffers/encode.ts';
import { decodePacket } from '../../host/gsb/packet.ts';
import { type Flex, FlexFloat, FlexInt, FlexUInts } from '../../host/gsb/types.ts';
import { flexBytes, flexList, flexMap, flexNumbers } from '../../host/gsb/values.ts';
import { meaning } from '../lib/flex-meaning.ts';
import { noRecordings, readRecording, recordingNames } from '../lib/gsb-recordings.ts';
import { FLEX_VECTORS } from '../lib/gsb-vectors.ts';
import { tookAtMost } from '../lib/in-time.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const hex = (data: Uint8Array) => Buffer.from(data).toString('hex');

t.test('vectors: the bytes of the Rust encoder, and back', async (t) => {
  for (const vector of FLEX_VECTORS) {
    t.equal(hex(encodeFlex(vector.value)), vector.hex, vector.name);
    t.same(meaning(decodeFlex(bytes(vector.hex))), meaning(vector.value), vector.name);
  }
});

t.test('long vectors of bytes are as wide as their length, blobs are not', async (t) => {
  const data = new Uint8Array(300).fill(7);
  data[0] = 1;
  const wide = encodeFlex(new FlexUInts(data));
  t.equal(wide.length, 606);
  t.equal(hex(wide.subarray(0, 8)), '2c01010007000700');
  t.equal(hex(wide.subarray(-4)), '58023102');
  const blob = encodeFlex(data);
  t.equal(blob.length, 306);
  t.equal(hex(blob.subarray(0, 4)), '2c010107');
  t.equal(hex(blob.subarray(-4)), '2c016502');
  t.same(meaning(decodeFlex(wide)), meaning(data));
  t.same(meaning(decodeFlex(blob)), meaning(data));
});

/** Buffers that our encoder does not write: indirect types, keys and their vectors, other widths. */
const FOREIGN: [string, string, Flex][] = [
  ['null of 8 bytes', '0000000000000000 00 08', null],
  ['int of 1, 2, 4 and 8 bytes', 'ff 04 01', -1],
  ['', 'feff 05 02', -2],
  ['', 'fdffffff 06 04', -3],
  ['', 'fcffffffffffffff 07 08', -4],
  ['uint of 1, 2, 4 and 8 bytes', 'ff 08 01', 255],
  ['', 'ffff 09 02', 65535],
  ['', 'ffffffff 0a 04', 4294967295],
  ['', 'ffffffffffff1f00 0b 08', Number.MAX_SAFE_INTEGER],
  ['', '0000000000002000 0b 08', 2n ** 53n],
  ['', 'ffffffffffffffff 0b 08', 2n ** 64n - 1n],
  ['', '0000000000000080 07 08', -(2n ** 63n)],
  ['float of 4 and 8 bytes', '00000040 0e 04', 2],
  ['', '0000000000000440 0f 08', 2.5],
  ['bool of 2 bytes', '0100 69 02', true],
  ['key', '6162 00 03 10 01', 'ab'],
  ['string whose length has 4 bytes', '02000000 6869 00 03 16 01', 'hi'],
  ['indirect int, 2 bytes', 'feff 02 19 01', -2],
  ['indirect uint, 4 bytes', '01000100 04 1e 01', 65537],
  ['indirect float, 8 bytes', '9a9999999999b93f 08 23 01', 0.1],
  ['blob', '03 010203 03 64 01', Uint8Array.of(1, 2, 3)],
  ['vector of ints', '03 01ff02 03 2c 01', [1, -1, 2]],
  ['vector of ints, 2 bytes', '0300 0100ffff0200 06 2d 01', [1, -1, 2]],
  ['vector of uints beyond a byte', '0300 010000010200 06 31 01', [1, 256, 2]],
  ['vector of uints, 8 bytes', '0100000000000000 0700000000000000 08 33 01', new FlexUInts(Uint8Array.of(7))],
  ['vector of floats', '01000000 0000c03f 04 36 01', Float64Array.of(1.5)],
  ['empty vector of floats', '00 00 34 01', Float64Array.of()],
  ['vector of bools', '03 010001 03 90 01', [true, false, true]],
  ['vector of keys', '6100 6200 02 0504 02 38 01', ['a', 'b']],
  ['vector of strings', '016100 016200 02 0604 02 3c 01', ['a', 'b']],
  ['2, 3 and 4 ints', '01ff 02 40 01', [1, -1]],
  ['', '01ff02 03 4c 01', [1, -1, 2]],
  ['', '01ff0203 04 58 01', [1, -1, 2, 3]],
  ['2, 3 and 4 uints', '01ff 02 44 01', [1, 255]],
  ['', '0100ffff0200 06 51 01', [1, 65535, 2]],
  ['', '01ff0203 04 5c 01', [1, 255, 2, 3]],
  ['2, 3 and 4 floats', '0000c03f00000040 08 4a 01', Float64Array.of(1.5, 2)],
  ['', '0000c03f0000004000000000 0c 56 01', Float64Array.of(1.5, 2, 0)],
  ['', '0000c03f000000400000000000000040 10 62 01', Float64Array.of(1.5, 2, 0, 2)],
  ['empty vector', '00 00 28 01', []],
  ['map whose keys are wider than its values', '6100 0100 0400 02 02 01 01 08 02 24 01', { a: 1 }],
  ['map whose keys are not sorted', '6200 6100 02 0504 02 01 02 0102 0404 04 24 01', { b: 1, a: 2 }],
];

t.test('every type is read, in every width', async (t) => {
  let named = '';
  for (const [name, data, value] of FOREIGN) {
    named = name || named;
    const read = decodeFlex(bytes(data));
    t.same(meaning(read), meaning(value), `${named}: ${data}`);
    t.equal(read instanceof Uint8Array, value instanceof Uint8Array);
    t.equal(read instanceof FlexUInts, value instanceof FlexUInts);
  }
});

const BAD: [string, string, RegExp][] = [
  ['nothing', '', /it has 0 bytes/],
  ['two bytes', '0401', /it has 2 bytes/],
  ['a root width of 3', '000003', /width of 3 bytes/],
  ['a root wider than the buffer', '000008', /wider than it is long/],
  ['a type that does not exist', '00 7001', /the type 28/],
  ['a type above all', '00 fc01', /the type 63/],
  ['a float of one byte', '00 0c01', /float of 1 bytes/],
  ['a float of two bytes', '0000 0d02', /float of 2 bytes/],
  ['an indirect float of one byte', '00 01 20 01', /float of 1 bytes/],
  ['a reference before the beginning', '05 1401', /leads before the beginning/],
  ['a string longer than the buffer', 'c8 6869 00 03 14 01', /200 bytes at 1 are not there/],
  ['a string without its length', '6869 00 03 14 01', /not there/],
  ['a string without NUL', '02 686961 03 14 01', /does not end with NUL/],
  ['a string that is not UTF-8', '02 c328 00 03 14 01', /not UTF-8/],
  ['a string of half a surrogate pair', '03 eda080 00 04 14 01', /not UTF-8/],
  ['a key that does not end', '616263 0310 01', /a key does not end/],
  ['a key that is not UTF-8', 'ff00 02 10 01', /not UTF-8/],
  ['a vector longer than the buffer', 'ff 00 28 01', /longer than what is there/],
  ['a typed vector longer than the buffer', 'ff 00 01 30 01', /255 bytes at 1 are not there/],
  ['a length beyond 2^53', 'ffffffffffffffff 00 01 33 01', /length or distance/],
  ['a length of 2^50', '0000000000000400 00 01 2f 01', /not there/],
  ['four floats without bytes', '00 01 63 01', /not there/],
  ['a map without keys', '01 01 04 02 24 01', /not there|before the beginning/],
  ['a map with a width of 3', '6100 0102 01 03 01 01 04 02 24 01', /width of 3/],
  ['a map with fewer keys', '6100 0102 01 01 02 0102 0404 04 24 01', /not as many keys/],
  ['a map with a key twice', '6100 02 0304 02 01 02 0102 0404 04 24 01', /the key "a" twice/],
  ['a vector that contains itself', '01 00 28 02 28 01', /nested more than 64/],
];

for (const [what, data, message] of BAD) {
  t.test(`refused: ${what}`, async (t) => {
    t.throws(() => decodeFlex(bytes(data)), { code: 'YAVM_E_GSB_BODY', message });
  });
}

/** A vector whose elements all refer to one vector, that does the same, and so on. */
function referenceBomb(levels: number, fan: number): Uint8Array {
  const out = [0];
  let address = 1;
  for (let level = 0; level < levels; level++) {
    out.push(fan);
    const next = out.length;
    for (let index = 0; index < fan; index++) out.push(out.length - address);
    for (let index = 0; index < fan; index++) out.push(0x28);
    address = next;
  }
  out.push(out.length - address, 0x28, 1);
  return Uint8Array.from(out);
}

t.test('bombs do not go off', async (t) => {
  t.same(decodeFlex(referenceBomb(2, 2)), [
    [[], []],
    [[], []],
  ]);
  t.throws(() => decodeFlex(referenceBomb(30, 30)), { code: 'YAVM_E_GSB_BODY', message: /too many values/ });
  t.throws(() => decodeFlex(referenceBomb(100, 1)), { message: /nested more than 64/ });

  // 20 000 references to one string of 60 000 bytes.
  const text = Buffer.alloc(60_000, 'x');
  const references = Buffer.alloc(80_000);
  for (let index = 0; index < 20_000; index++)
    references.writeUInt32LE(text.length + 5 + 4 * index, 4 * index);
  const head = Buffer.from('60ea0000', 'hex');
  const tail = Buffer.alloc(20_000, 0x16);
  const root = Buffer.alloc(6);
  root.writeUInt32LE(100_000);
  root.set([0x2a, 4], 4);
  const repeated = [head, text, Buffer.from('00204e0000', 'hex'), references, tail, root];
  t.throws(() => decodeFlex(Buffer.concat(repeated)), { message: /referred to too often/ });

  const nulls = { length: 300_000 };
  t.throws(() => decodeFlex(encodeFlex(Array.from(nulls, () => null))), { message: /too many values/ });
  t.equal((decodeFlex(encodeFlex(Array.from(nulls, () => null)), { values: 1e6 }) as Flex[]).length, 300_000);
});

t.test('names that objects know are keys like others', async (t) => {
  const data = encodeFlex(
    Object.fromEntries([...['constructor', 'toString', '__proto__'].entries()].map(swap)),
  );
  const map = decodeFlex(data) as Record<string, Flex>;
  t.equal(Object.getPrototypeOf(map), null);
  t.same(Object.keys(map), ['__proto__', 'constructor', 'toString']);
  t.equal({}.constructor, Object);
});

function swap([index, name]: [number, string]): [string, Flex] {
  return [name, index];
}

t.test('what cannot be written is refused', async (t) => {
  const loop: Flex[] = [];
  loop.push(loop);
  t.throws(() => encodeFlex(loop), { code: 'YAVM_E_GSB_BODY', message: /nested more than 64/ });
  t.throws(() => encodeFlex({ 'a\0b': 1 }), { code: 'YAVM_E_GSB_BODY', message: /a NUL in the key/ });
  t.throws(() => encodeFlex(2n ** 64n), { code: 'YAVM_E_GSB_BODY', message: /64 bits/ });
  t.throws(() => encodeFlex(-(2n ** 63n) - 1n), { code: 'YAVM_E_GSB_BODY', message: /64 bits/ });
  t.throws(() => encodeFlex(new FlexInt(1.5)), { code: 'YAVM_E_GSB_BODY', message: /not an exact integer/ });
  t.throws(() => encodeFlex([undefined] as unknown as Flex), {
    code: 'YAVM_E_GSB_BODY',
    message: /undefined/,
  });
});

t.test('numbers keep their value', async (t) => {
  const values = [0, 1, -1, 127, 128, -128, -129, 255, 256, 32767, 32768, -32768, -32769, 65535, 65536];
  values.push(
    2 ** 31 - 1,
    2 ** 31,
    -(2 ** 31),
    -(2 ** 31) - 1,
    2 ** 32 - 1,
    2 ** 32,
    1e-20,
    0.1,
    1e300,
    -1e300,
  );
  values.push(Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 1.5, Math.PI, 5e-324, 3.5e38);
  values.push(Number.POSITIVE_INFINITY, Number.NaN, -0);
  for (const value of values) {
    t.ok(Object.is(decodeFlex(encodeFlex(value)), value), `${value}`);
    t.ok(Object.is((decodeFlex(encodeFlex([value, null])) as Flex[])[0], value), `${value} in a vector`);
    t.ok(Object.is(decodeFlex(encodeFlex(new FlexFloat(value))), value), `${value} as a float`);
  }
  for (const value of [2n ** 53n, 2n ** 64n - 1n, -(2n ** 63n)])
    t.equal(decodeFlex(encodeFlex(value)), value);
  t.equal(decodeFlex(encodeFlex(7n)), 7);
  t.equal(encodeFlex(new FlexFloat(1e-20)).length, 10, 'eight bytes where four would lose something');
});

/** Any value, its strings, keys and sizes around the places where widths change. */
function anyValue(depth: number): Flex {
  const kind = random.between(0, depth > 0 ? 12 : 9);
  if (kind === 0) return null;
  if (kind === 1) return random.chance(2);
  if (kind === 2) return random.next() >>> random.between(0, 32);
  if (kind === 3) return -(random.next() >>> random.between(0, 32));
  if (kind === 4) return random.pick([0.5, 0.1, -1.25, 1e200, new FlexFloat(3), new FlexInt(70_000)]);
  if (kind === 5)
    return random.pick([2n ** 60n + BigInt(random.next()), -(2n ** 60n) - BigInt(random.next())]);
  if (kind === 6)
    return random.pick(['', 'ok', 'ü€😀', 'x'.repeat(random.between(0, 300)), 'y'.repeat(70_000)]);
  if (kind === 7) return random.bytes(random.pick([0, 1, 2, 4, 255, 256, 300]));
  if (kind === 8) return new FlexUInts(random.bytes(random.pick([0, 1, 2, 3, 4, 5, 255, 256, 66_000])));
  if (kind === 9) return Float64Array.from({ length: random.between(0, 6) }, () => random.next() / 7);
  const size = random.pick([0, 1, 2, 3, 4, 5, 20, 300]) >> (2 * (4 - depth));
  if (kind === 10) return Array.from({ length: size }, () => anyValue(depth - 1));
  const key = () => random.pick(['Ok', 'state', 'é', '', '😀', `k${random.between(0, 50)}`]);
  return Object.fromEntries(Array.from({ length: size }, () => [key(), anyValue(depth - 1)]));
}

t.test('any value comes back with its meaning', async (t) => {
  const rounds = count(20_000);
  for (let round = 0; round < rounds; round++) {
    const value = anyValue(random.between(0, 5));
    const data = encodeFlex(value);
    const read = decodeFlex(data);
    if (JSON.stringify(meaning(read)) !== JSON.stringify(meaning(value))) {
      t.same(meaning(read), meaning(value), `round ${round}`);
      return;
    }
  }
  t.pass(`${rounds} values`);
});

t.test('megabytes are fast both ways', async (t) => {
  const data = random.bytes(8_000_000);
  // Of the processor: what others take of it is not ours.
  const start = process.cpuUsage();
  const read = decodeFlex(encodeFlex({ Ok: new FlexUInts(data) })) as { Ok: FlexUInts };
  const text = 'a line of output\n'.repeat(1_000_000);
  const back = decodeFlex(encodeFlex({ Ok: text })) as { Ok: string };
  const { user, system } = process.cpuUsage(start);
  t.ok(Buffer.compare(read.Ok.bytes, data) === 0 && back.Ok === text);
  tookAtMost(t, '25 MB both ways', (user + system) / 1000, 2000);
});

t.test('bodies: plain, or wrapped by zlib', async (t) => {
  const value = { activityId: 'x'.repeat(120), list: [1, 2, 3] };
  t.same(meaning(decodeBody(encodeBody(value))), value);
  for (const level of [0, 1, 6, 9]) {
    t.same(meaning(decodeBody(deflateSync(encodeBody(value), { level }))), value, `level ${level}`);
  }
  // Begins as zlib does: a method, flags, and a multiple of 31.
  const alike = encodeBody({ 'x^key': 'value' });
  t.equal(((alike[0] as number) * 256 + (alike[1] as number)) % 31, 0);
  t.same(meaning(decodeBody(alike)), { 'x^key': 'value' });
  t.throws(() => decodeBody(deflateSync(Buffer.alloc(MAX_BODY + 1))), {
    code: 'YAVM_E_GSB_BODY',
    message: /once inflated/,
  });
  t.throws(() => decodeBody(deflateSync(encodeBody(value)).subarray(0, 20)), { code: 'YAVM_E_GSB_BODY' });
});

t.test('fields are taken in whatever form they came', async (t) => {
  t.same(flexBytes(decodeFlex(encodeFlex(new FlexUInts(Uint8Array.of(1, 2))))), Uint8Array.of(1, 2));
  t.same(flexBytes(decodeFlex(encodeFlex(new FlexUInts(Uint8Array.of())))), Uint8Array.of());
  t.same(flexBytes(Uint8Array.of(3)), Uint8Array.of(3));
  t.equal(flexBytes([1, 256]), undefined);
  t.equal(flexBytes('text'), undefined);
  t.same(flexNumbers(decodeFlex(encodeFlex([0, 2]))), [0, 2]);
  t.same(flexNumbers(Float64Array.of(0.5)), [0.5]);
  t.same(flexNumbers(new FlexUInts(Uint8Array.of(9))), [9]);
  t.equal(flexNumbers([1, 'a']), undefined);
  t.same(flexList([null]), [null]);
  t.equal(flexList({}), undefined);
  t.equal(flexMap([]), undefined);
  t.equal(flexMap(Uint8Array.of()), undefined);
  t.equal(flexMap(null), undefined);
  t.equal(flexMap(new FlexUInts(Uint8Array.of())), undefined);
  t.same(flexMap({ a: 1 }), { a: 1 });
});

t.test('every recorded body decodes, and keeps its meaning', { skip: noRecordings }, async (t) => {
  let bodies = 0;
  let same = 0;
  for (const name of recordingNames()) {
    for (const { frame } of readRecording(name)) {
      const body = frame === undefined ? undefined : bodyOf(frame);
      if (body === undefined) continue;
      const value = decodeBody(body);
      const again = encodeBody(value);
      if (Buffer.compare(again, body) === 0) same++;
      if (JSON.stringify(meaning(decodeBody(again))) !== JSON.stringify(meaning(value))) t.fail(name);
      bodies++;
    }
  }
  t.ok(bodies > 1500, `${bodies} bodies, ${same} of them to the same bytes`);
});

/** A call's or an answer's body, unless it is raw, empty or the text of an error. */
function bodyOf(frame: Uint8Array): Uint8Array | undefined {
  const packet = decodePacket(frame.subarray(4));
  if (packet.kind === 'callRequest') return packet.address.endsWith('/raw') ? undefined : packet.data;
  return packet.kind === 'callReply' && packet.code === 0 && packet.data.length > 0 ? packet.data : undefined;
}
