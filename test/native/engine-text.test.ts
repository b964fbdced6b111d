/** TextEncoder and TextDecoder of the guest's engine, measured against Node's. */
import t from 'tap';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import { linesOf, runScript } from './engine-host.ts';

/** A decoder's options, and the chunks that it is fed; each chunk but the last with `stream`. */
interface DecodeCase {
  fatal: boolean;
  ignoreBOM: boolean;
  chunks: number[][];
}

/** Runs under both: what a decoder makes of a case. */
function decode({ fatal, ignoreBOM, chunks }: DecodeCase): string {
  const decoder = new TextDecoder('utf-8', { fatal, ignoreBOM });
  const parts: string[] = [];
  try {
    chunks.forEach((chunk, index) => {
      parts.push(decoder.decode(new Uint8Array(chunk), { stream: index < chunks.length - 1 }));
    });
  } catch (error) {
    parts.push(error instanceof TypeError ? 'TypeError' : String(error));
  }
  return JSON.stringify(parts);
}

/**
 * What it should be. Node 24 drops a second byte order mark when the first came in two chunks, so the mark is taken off
 * here: from the first text that is not empty.
 */
function expected(one: DecodeCase): string {
  const parts = JSON.parse(decode({ ...one, ignoreBOM: true })) as string[];
  const first = parts.findIndex((part) => part !== '');
  if (!one.ignoreBOM && first >= 0) parts[first] = (parts[first] as string).replace(/^\ufeff/, '');
  return JSON.stringify(parts);
}

/** Runs under both: what an encoder makes of a text, whole and into buffers of several sizes. */
function encode(text: string): string {
  const encoder = new TextEncoder();
  const results: unknown[] = [[...encoder.encode(text)]];
  for (const size of [0, 1, 2, 3, 4, 5, 9, 40, 300]) {
    const target = new Uint8Array(size + 2).fill(255);
    const { read, written } = encoder.encodeInto(text, target.subarray(1, size + 1));
    results.push([read, written, [...target]]);
  }
  return JSON.stringify(results);
}

/** Runs `body(case)` for each case in the engine; what it gives, a line each. */
async function inEngine(body: (input: never) => string, cases: unknown[]): Promise<string[]> {
  const result = await runScript(
    `const body = ${body.toString()};\nfor (const one of ${JSON.stringify(cases)}) console.log(body(one));`,
  );
  if (result.code !== 0) throw new Error(result.stderr.slice(-2000));
  return linesOf(result);
}

/** Pieces of UTF-8 and of what is none. */
const PIECES = [
  [0x41],
  [0x7f],
  [0x00],
  [0xc2, 0x80],
  [0xdf, 0xbf],
  [0xe0, 0xa0, 0x80],
  [0xe2, 0x82, 0xac],
  [0xed, 0x9f, 0xbf],
  [0xef, 0xbf, 0xbd],
  [0xef, 0xbb, 0xbf],
  [0xf0, 0x90, 0x80, 0x80],
  [0xf0, 0x9f, 0x98, 0x80],
  [0xf4, 0x8f, 0xbf, 0xbf],
  [0x80],
  [0xbf],
  [0xc0, 0x80],
  [0xc1],
  [0xc2],
  [0xe0, 0x80],
  [0xe0, 0x9f, 0xbf],
  [0xe2],
  [0xe2, 0x82],
  [0xed, 0xa0, 0x80],
  [0xf0],
  [0xf0, 0x8f],
  [0xf0, 0x9f],
  [0xf0, 0x9f, 0x98],
  [0xf4, 0x90],
  [0xf5],
  [0xf8, 0x88],
  [0xff],
  [0xfe],
];

function makeCase(random: Random): DecodeCase {
  const bytes: number[] = [];
  const valid = random.between(0, 3) === 0;
  for (let count = random.between(0, 12); count > 0; count--) {
    bytes.push(...random.pick(valid ? PIECES.slice(0, 13) : PIECES));
    if (random.between(0, 6) === 0) bytes.push(...Array(random.between(1, 20)).fill(0x61));
  }
  const chunks: number[][] = [];
  while (bytes.length > 0 && random.between(0, 3) > 0)
    chunks.push(bytes.splice(0, random.between(0, bytes.length + 1)));
  chunks.push(bytes);
  return { fatal: random.between(0, 3) === 0, ignoreBOM: random.between(0, 2) === 0, chunks };
}

t.test(
  'any bytes decode as under Node: whole, in chunks, fatal or not, with and without a BOM',
  async (t) => {
    const random = new Random();
    t.comment(`seed ${random.seed}`);
    const cases = Array.from({ length: count(20_000) }, () => makeCase(random));
    const results = await inEngine(decode, cases);
    t.equal(results.length, cases.length);
    const differing = cases.findIndex((one, index) => results[index] !== expected(one));
    t.equal(differing, -1, `case ${JSON.stringify(cases[differing])}`);
  },
);

t.test('each pair of pieces decodes as under Node', async (t) => {
  const cases = PIECES.flatMap((first) =>
    PIECES.map((second) => ({ fatal: false, ignoreBOM: false, chunks: [[...first, ...second]] })),
  );
  const results = await inEngine(decode, cases);
  const differing = cases.findIndex((one, index) => results[index] !== expected(one));
  t.equal(differing, -1, `case ${JSON.stringify(cases[differing])}`);
  t.equal(results.length, PIECES.length ** 2);
});

t.test('texts encode as under Node, lone surrogates and buffers that are too small included', async (t) => {
  const units = ['a', 'é', '€', '😀', '\ud800', '\udc00', '\0', 'plain text', 'ÿ', '\ufeff', '日本'];
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const texts = Array.from({ length: count(4_000) }, () =>
    Array.from({ length: random.between(0, 12) }, () => random.pick(units)).join(''),
  );
  const results = await inEngine(encode, texts);
  const differing = texts.findIndex((text, index) => results[index] !== encode(text));
  t.equal(differing, -1, `text ${JSON.stringify(texts[differing])}`);
  t.equal(results.length, texts.length);
});

t.test('labels, options and arguments are read as under Node', async (t) => {
  function probe(label: unknown): string {
    const attempt = (call: () => unknown): unknown => {
      try {
        return call();
      } catch (error) {
        return (error as Error).name;
      }
    };
    const bytes = new Uint8Array([0x61, 0x62, 0x63, 0x64]);
    return JSON.stringify([
      attempt(() => new TextDecoder(label as string).encoding),
      attempt(() => new TextDecoder('utf-8', { fatal: true }).fatal),
      attempt(() => new TextDecoder('utf-8', { ignoreBOM: true }).ignoreBOM),
      attempt(() => new TextDecoder().decode()),
      attempt(() => new TextDecoder().decode(bytes.buffer)),
      attempt(() => new TextDecoder().decode(new DataView(bytes.buffer, 1, 2))),
      attempt(() => new TextDecoder().decode(new Uint16Array(bytes.buffer, 2))),
      attempt(() => new TextDecoder().decode('text' as unknown as Uint8Array)),
      attempt(() => new TextEncoder().encoding),
      attempt(() => new TextEncoder().encode().length),
      attempt(() => (TextEncoder as unknown as () => unknown)()),
      attempt(() => TextDecoder.prototype.decode.call({} as InstanceType<typeof TextDecoder>)),
    ]);
  }
  const labels = [
    'utf-8',
    'UTF-8',
    ' utf8\n',
    'unicode-1-1-utf-8',
    'utf-9',
    '',
    'utf-8 x',
    'x-unicode20utf8',
  ];
  t.same(await inEngine(probe, labels), labels.map(probe));
});
