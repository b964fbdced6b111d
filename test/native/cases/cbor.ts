/** The addon's CBOR against cbor-x behind the host's check: the two ends of a port must agree on every byte. */
import { decodeCbor, encodeCbor, MAX_OBJECTS, MAX_VALUES } from '../../../guest/protocol/cbor.ts';
import { Random } from '../../lib/random.ts';
import type { Case } from '../harness.ts';

const SAMPLES: [what: string, value: unknown][] = [
  ['whole numbers', [0, 1, 23, 24, 255, 256, 65_535, 65_536, 0xffffffff, 2 ** 32, Number.MAX_SAFE_INTEGER]],
  ['negative ones', [-1, -24, -25, -256, -257, -65_537, -(2 ** 32) - 1, -Number.MAX_SAFE_INTEGER]],
  ['fractions', [0.5, -0.1, 1e300, 5e-324, 1.5e9 + 0.25, 2 ** 53 + 2, Number.POSITIVE_INFINITY]],
  ['simple values', [true, false, null, undefined]],
  [
    'text',
    ['', 'a', 'grün', '日本', '😀', 'x'.repeat(23), 'y'.repeat(24), 'z'.repeat(300), 'é'.repeat(40_000)],
  ],
  ['bytes', [new Uint8Array(0), new Uint8Array([0, 255]), new Uint8Array(70_000).fill(7)]],
  ['nesting', { a: [{ b: { c: [[], {}] } }], 'key with space': 1, '': 2 }],
  ['a long list', new Array(1000).fill('item')],
];

/** Equal by what a message can hold; NaN is not among it. */
function same(a: unknown, b: unknown): boolean {
  if (a instanceof Uint8Array || b instanceof Uint8Array) {
    return (
      a instanceof Uint8Array &&
      b instanceof Uint8Array &&
      a.length === b.length &&
      a.every((byte, index) => byte === b[index])
    );
  }
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return Object.is(a, b);
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => same((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}

function attempt(decode: () => unknown): { value?: unknown; refused: boolean } {
  try {
    return { value: decode(), refused: false };
  } catch {
    return { refused: true };
  }
}

export const cborCases: Case[] = [
  {
    name: 'cbor: what one writes, the other reads',
    run(native, assert) {
      for (const [what, value] of SAMPLES) {
        assert.ok(same(decodeCbor(native.cborEncode(value)), value), `${what}, addon to cbor-x`);
        assert.ok(same(native.cborDecode(encodeCbor(value)), value), `${what}, cbor-x to addon`);
      }
      assert.ok(Object.is(native.cborDecode(native.cborEncode(-0)), -0), 'minus zero');
    },
  },
  {
    name: 'cbor: what no message holds is refused on both ways',
    run(native, assert) {
      let deep: unknown = 1;
      for (let level = 0; level < 17; level++) deep = [deep];
      for (const value of [deep, () => 1, Symbol('s'), 10n, new Uint16Array(1)]) {
        assert.ok(attempt(() => native.cborEncode(value)).refused, `encoding ${typeof value}`);
      }
      const refused = [
        '',
        '9fff',
        'c100',
        'a10102',
        '1c',
        '62c3',
        'f8',
        'f818',
        '8101 00',
        '5b7fffffffffffffff',
        '9b00ffffffffffffff',
      ];
      refused.push('a1695f5f70726f746f5f5f01', `${'81'.repeat(17)}01`);
      for (const text of refused) {
        const digits = text.replace(/ /g, '').match(/../g) ?? [];
        const bytes = new Uint8Array(digits.map((digit) => Number.parseInt(digit, 16)));
        assert.ok(attempt(() => native.cborDecode(bytes)).refused, `decoding ${text}`);
      }
    },
  },
  {
    name: 'cbor: both have the same bounds on how much a message holds',
    run(native, assert) {
      const bounds: [what: string, most: number, value: (count: number) => unknown][] = [
        ['values', MAX_VALUES - 1, (count) => new Array(count).fill(1)],
        ['lists', MAX_OBJECTS - 1, (count) => new Array(count).fill([])],
        ['maps', MAX_OBJECTS - 1, (count) => new Array(count).fill({})],
        ['byte strings', MAX_OBJECTS - 1, (count) => new Array(count).fill(new Uint8Array(0))],
        [
          'names in a map',
          (MAX_VALUES - 2) / 2,
          (count) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`n${index}`, 0])),
        ],
      ];
      for (const [what, most, value] of bounds) {
        for (const decode of [decodeCbor, native.cborDecode]) {
          assert.ok(!attempt(() => decode(encodeCbor(value(most)))).refused, `${most} ${what}`);
          assert.ok(attempt(() => decode(encodeCbor(value(most + 1)))).refused, `${most + 1} ${what}`);
        }
      }
    },
  },
  {
    name: 'cbor: random and damaged bytes: both read the same value, or both refuse',
    run(native, assert) {
      const random = new Random(20_261_125);
      const valid = SAMPLES.slice(0, 4).map(([, value]) => encodeCbor(value));
      const rounds = assert.soak ? 200_000 : 10_000;
      let read = 0;
      for (let round = 0; round < rounds; round++) {
        const bytes = random.chance(3)
          ? random.bytes(random.between(1, 24))
          : Uint8Array.from(valid[random.between(0, valid.length)] as Uint8Array);
        if (!random.chance(5)) bytes[random.between(0, bytes.length)] = random.between(0, 256);
        const ours = attempt(() => native.cborDecode(bytes));
        const theirs = attempt(() => decodeCbor(bytes));
        if (ours.refused !== theirs.refused || (!ours.refused && !same(ours.value, theirs.value))) {
          assert.equal(
            [...bytes],
            [],
            `round ${round}: addon ${JSON.stringify(ours)}, cbor-x ${JSON.stringify(theirs)}`,
          );
        }
        if (!ours.refused) read++;
      }
      assert.ok(read > rounds / 20, `${read} of ${rounds} could be read`);
    },
  },
];
