import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { OutputCapture, outputValue } from '../../host/exe-unit/capture.ts';
import { SpoolStore } from '../../host/exe-unit/spool-store.ts';
import type { Capture } from '../../host/exe-unit/types.ts';
import { FlexUInts } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-capture-'));
const store = new SpoolStore({ folder: join(folder, 'spool'), limit: 1e9, logger: silentLogger });
t.teardown(async () => {
  await store.close();
  rmSync(folder, { recursive: true });
});

const atEnd = (part: 'all' | 'head' | 'tail' | 'head-tail', size: number = 0): Capture => ({
  mode: 'at-end',
  part,
  size,
  format: 'text',
});

async function show(capture: Capture, output: string | Buffer, captured: number = 1e6, step: number = 3) {
  const kept = new OutputCapture(capture, captured, store);
  const bytes = Buffer.from(output);
  for (let at = 0; at < bytes.length; at += step) await kept.take(bytes.subarray(at, at + step));
  await kept.spool.seal();
  return kept.show(1e9);
}

t.test('which part is kept', async (t) => {
  const text = '0123456789abcdef';
  const table: [Capture, string | null][] = [
    [atEnd('all'), text],
    [atEnd('head', 5), '01234'],
    [atEnd('tail', 5), 'bcdef'],
    [atEnd('head-tail', 5), '012ef'],
    [atEnd('head-tail', 6), '012def'],
    [atEnd('head-tail', 1), '0'],
    [atEnd('head-tail', 16), text],
    [atEnd('head-tail', 15), '01234567' + '9abcdef'],
    [atEnd('head-tail', 100), text],
    [atEnd('tail', 100), text],
    [atEnd('head', 0), null],
    [atEnd('tail', 0), null],
    [atEnd('head-tail', 0), null],
    [{ mode: 'stream', limit: null, format: 'text' }, text],
    [{ mode: 'stream', limit: 4, format: 'text' }, '0123'],
    [{ mode: 'stream', limit: 0, format: 'text' }, null],
  ];
  for (const [capture, expected] of table) {
    const shown = await show(capture, text);
    t.equal(shown.value, expected, JSON.stringify(capture));
    t.equal(shown.bytes, shown.of, 'no cap of ours came in');
  }
});

t.test('any output in any pieces: the same as cutting it afterwards', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = 0; round < count(400); round++) {
    const output = Buffer.from(Array.from({ length: random.between(0, 300) }, () => random.between(97, 123)));
    const size = random.between(0, 400);
    const part = random.pick(['all', 'head', 'tail', 'head-tail'] as const);
    const text = output.toString();
    const [head, tail] = [Math.ceil(size / 2), Math.floor(size / 2)];
    const expected = {
      all: text,
      head: text.slice(0, size),
      tail: size === 0 ? '' : text.slice(-size),
      'head-tail': text.length <= size ? text : text.slice(0, head) + text.slice(text.length - tail),
    }[part];
    const shown = await show(atEnd(part, size), output, 1e6, random.between(1, 50));
    if ((shown.value ?? '') !== expected) return t.equal(shown.value, expected, `${part} ${size}`);
  }
  t.pass('all as expected');
});

t.test('as text, as Latin-1, as numbers', async (t) => {
  const value = (bytes: number[], format: 'text' | 'binary' = 'text') =>
    outputValue(Uint8Array.from(bytes), format).value;
  t.equal(value([]), null);
  t.equal(value([], 'binary'), null);
  t.equal(value([0x74, 0xc3, 0xb6]), 'tö');
  t.equal(value([104, 105, 255, 0, 10]), 'hiÿ\0\n');
  t.equal(value([0xc3]), 'Ã', 'half a character');
  t.equal(value([0xef, 0xbb, 0xbf, 0x61]), '\ufeffa', 'a byte order mark is a character');
  const binary = value([104, 255, 0], 'binary');
  t.ok(binary instanceof FlexUInts);
  t.strictSame([...(binary as FlexUInts).bytes], [104, 255, 0]);
});

t.test('how much space it takes on the bus', async (t) => {
  t.equal(outputValue(Buffer.from('é'), 'text').encoded, 2);
  t.equal(outputValue(Uint8Array.of(0xe9), 'text').encoded, 2, 'Latin-1 grows');
  t.equal(outputValue(new Uint8Array(100), 'binary').encoded, 100);
  t.equal(outputValue(new Uint8Array(300), 'binary').encoded, 600);
  t.equal(outputValue(new Uint8Array(70_000), 'binary').encoded, 280_000);
});

t.test('a budget is kept to whatever the bytes are', async (t) => {
  const kept = new OutputCapture(atEnd('all'), 1e6, store);
  await kept.take(Buffer.alloc(10_000, 0xe9));
  const shown = await kept.show(5000);
  t.ok(shown.encoded <= 5000);
  t.strictSame([shown.bytes, shown.of], [2500, 10_000]);
  t.strictSame(await kept.show(0), { value: null, bytes: 0, of: 10_000, encoded: 0 });
  t.strictSame(await kept.show(-5), { value: null, bytes: 0, of: 10_000, encoded: 0 });
});
