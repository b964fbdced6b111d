/** Primitive values, strings, BigInts, dates (values.cc). */
import { type Ask, attempt, show } from './show.ts';

const ODD_NUMBERS = [
  0,
  -0,
  1,
  -1,
  1.5,
  -1.9,
  2 ** 31,
  2 ** 32 + 5,
  -(2 ** 31) - 1,
  2 ** 53,
  2 ** 63,
  2 ** 64,
  -(2 ** 63),
  -(2 ** 70),
  1e300,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  4294967295.5,
];

const ODD_BIGINTS = [
  0n,
  1n,
  -1n,
  2n ** 63n - 1n,
  2n ** 63n,
  -(2n ** 63n),
  2n ** 64n - 1n,
  2n ** 64n,
  -(2n ** 64n),
  2n ** 127n + 12345n,
  -(2n ** 200n) - 7n,
  0x1234567890abcdef1234567890abcdefn,
];

const ODD_TEXTS = [
  '',
  'a',
  'plain ascii',
  'é',
  'größe',
  '€uro',
  '😀',
  'a😀b',
  '\ud800',
  'x\udc00y',
  '\ud83d',
  'nul\0inside',
  'ÿþ',
  '日本語のテキスト',
  'mixed é€😀 and more text that is long',
];

const ODD_BYTES = [
  [],
  [0x61],
  [0xc3, 0xa9],
  [0xff],
  [0x61, 0xff, 0x62],
  [0xe2, 0x82],
  [0xe2, 0x82, 0x41],
  [0xf0, 0x9f, 0x98, 0x80],
  [0xf0, 0x9f],
  [0xed, 0xa0, 0x80],
  [0xc0, 0x80],
  [0xf4, 0x90, 0x80, 0x80],
  [0x3d, 0xd8, 0x00, 0xde],
  [0x3d, 0xd8],
  [0, 0, 0x41, 0],
];

export function* values(ask: Ask): Generator<string> {
  const everything = [
    undefined,
    null,
    true,
    1,
    'text',
    Symbol('s'),
    1n,
    {},
    [],
    () => 1,
    class Named {},
    new Error('e'),
    new TypeError('t'),
    new Date(5),
    Promise.resolve(1),
    new ArrayBuffer(3),
    new Uint8Array(3),
    new Float64Array(1),
    new DataView(new ArrayBuffer(2)),
    /re/,
    new Map(),
    new Proxy({}, {}),
    Object.create(null),
    new Number(1),
    ask('external'),
  ];
  for (const value of everything) yield `kind ${attempt(() => ask('kind', value))}`;
  for (const value of [...ODD_NUMBERS, true, 'x', undefined])
    yield `numbers ${show(value)} ${attempt(() => ask('numbers', value))}`;
  for (const value of [...ODD_BIGINTS, 1])
    yield `bigInts ${show(value)} ${attempt(() => ask('bigInts', value))}`;
  for (const text of ODD_TEXTS) {
    for (const size of [-1, 0, 1, 2, 3, 4, 5, 7, 60])
      yield `readText ${show(text)} ${size} ${attempt(() => ask('readText', text, size))}`;
  }
  yield `readText of a number ${attempt(() => ask('readText', 5, 10))}`;
  for (const bytes of ODD_BYTES)
    yield `makeText ${bytes} ${attempt(() => ask('makeText', new Uint8Array(bytes)))}`;
  const throws = {
    toString: () => {
      throw new RangeError('no text');
    },
    valueOf: () => {
      throw new RangeError('no number');
    },
  };
  for (const value of [0, '', 'x', '12', null, undefined, {}, [1, 2], 1n, Symbol('s'), throws]) {
    // Engines word their own errors differently.
    yield `coerce ${attempt(() => (ask('coerce', value) as unknown[]).map((item) => (item instanceof Error ? item.name : item)))}`;
  }
  for (const value of [new Date(1234), new Date(Number.NaN), 5])
    yield `dates ${attempt(() => ask('dates', value))}`;
  yield `mistakes ${attempt(() => ask('mistakes'))}`;
}
