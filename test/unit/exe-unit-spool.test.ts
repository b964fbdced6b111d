import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Spool, SpoolSizes } from '../../host/exe-unit/spool.ts';
import { SpoolStore } from '../../host/exe-unit/spool-store.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const KIB = 1024;
const SMALL: SpoolSizes = { block: KIB, window: 8 * KIB, portion: 4 * KIB, file: 16 * KIB };
const ALL = { head: Number.POSITIVE_INFINITY, tail: 0 };

interface Fixture {
  store: SpoolStore;
  folder: string;
  files(): string[];
}

function newStore(
  t: { teardown(cleanup: () => unknown): unknown },
  options: { limit?: number; sizes?: Partial<SpoolSizes> } = {},
): Fixture {
  const base = mkdtempSync(join(tmpdir(), 'yavm-spool-'));
  const folder = join(base, 'spool');
  const { limit = 1e9, sizes = SMALL } = options;
  const store = new SpoolStore({ folder, limit, logger: silentLogger, sizes });
  t.teardown(async () => {
    await store.close();
    rmSync(base, { recursive: true });
  });
  return { store, folder, files: () => (existsSync(folder) ? readdirSync(folder) : []) };
}

/** Bytes that say where they stand. */
function pattern(from: number, to: number): Buffer {
  const bytes = Buffer.alloc(to - from);
  for (let at = from; at < to; at++) bytes[at - from] = (at * 7 + (at >> 8)) & 0xff;
  return bytes;
}

/** Appends up to `to`, or until the spool takes no more. */
async function fill(spool: Spool, to: number, step: number = 700): Promise<void> {
  while (spool.length < to && !spool.sealed) {
    await spool.append(pattern(spool.length, Math.min(to, spool.length + step)));
  }
}

t.test('short outputs make no file', async (t) => {
  const { store, files } = newStore(t);
  const spool = store.create(ALL);
  await fill(spool, 3000);
  await spool.seal();
  t.strictSame(files(), []);
  t.strictSame(await spool.collect(0, 3000), pattern(0, 3000));
  spool.append(pattern(0, 10));
  t.equal(spool.length, 3000, 'sealed: nothing more is taken');
});

t.test('long outputs are in files that only their owner can read', async (t) => {
  const { store, folder, files } = newStore(t);
  const spool = store.create(ALL);
  await fill(spool, 100_000);
  t.ok(files().length >= 5);
  for (const file of files()) t.equal(statSync(join(folder, file)).mode & 0o777, 0o600);
  t.equal(statSync(folder).mode & 0o777, 0o700);
  t.strictSame(await spool.collect(0, 100_000), pattern(0, 100_000), 'while it grows');
  await spool.seal();
  t.strictSame(await spool.collect(0, 100_000), pattern(0, 100_000), 'and afterwards');
  t.strictSame(await spool.collect(99_000, 100_000), pattern(99_000, 100_000));
  t.equal(store.used, 100_000);
  store.remove(spool);
  t.equal(store.used, 0);
  await store.close();
  t.notOk(existsSync(folder));
});

t.test('a file or link that stands in the way is not written to', async (t) => {
  const { store, folder } = newStore(t);
  const spool = store.create(ALL);
  await fill(spool, 20_000);
  writeFileSync(join(folder, '000001.spool'), 'precious');
  await fill(spool, 60_000);
  await spool.seal();
  t.equal(statSync(join(folder, '000001.spool')).size, 8);
  t.ok((await spool.collect(0, 60_000)).length < 60_000, 'what was to go there is missed');
});

t.test('only what somebody needs is written', async (t) => {
  const { store, files } = newStore(t);
  const tail = store.create({ head: 0, tail: 2000 });
  await fill(tail, 200_000);
  t.strictSame(files(), [], 'a tail shorter than the window');
  await tail.seal();
  t.strictSame(await tail.collect(198_000, 200_000), pattern(198_000, 200_000));

  const long = store.create({ head: 0, tail: 40_000 });
  await fill(long, 400_000);
  await long.seal();
  t.ok(store.used <= 40_000 + 2 * 16 * KIB, `${store.used}`);
  t.strictSame(await long.collect(360_000, 400_000), pattern(360_000, 400_000));

  const read = store.create({ head: 0, tail: 0 });
  const before = store.used;
  const reader = read.attach(0);
  while (read.length < 300_000) {
    await read.append(pattern(read.length, read.length + 1000));
    read.move(reader, read.length);
  }
  t.equal(store.used, before, 'a reader that keeps up');
});

t.test('a full disk: what nobody reads goes first, a reader is waited for', async (t) => {
  const { store } = newStore(t, { limit: 64 * KIB });
  const old = store.create({ head: 1000, tail: 0 });
  old.unclaimed = true;
  await fill(old, 60_000);
  await old.seal();
  const spool = store.create({ head: 1000, tail: 0 });
  spool.unclaimed = true;
  await fill(spool, 50_000);
  t.equal(old.next(0), 0, 'the head is for results');
  t.ok(old.next(17_000) > 17_000, 'the rest of a finished one was given up');

  const reader = spool.attach(0);
  spool.unclaimed = false;
  const filling = fill(spool, 300_000);
  let done = false;
  void filling.then(() => {
    done = true;
  });
  for (let round = 0; round < 100; round++) await turn();
  t.notOk(done, 'held back');
  t.ok(store.used <= 64 * KIB);
  // The reader goes on, and misses nothing.
  for (let position = 0; position < 300_000; ) {
    const first = spool.next(position);
    t.equal(first, position);
    if (first === spool.length) {
      await turn();
      continue;
    }
    const reading = spool.read(position, 5000);
    const bytes = reading instanceof Promise ? await reading : reading;
    if (!Buffer.from(bytes).equals(pattern(position, position + bytes.length))) t.fail(`${position}`);
    position += bytes.length;
    spool.move(reader, position);
  }
  await filling;
  t.ok(done);
});

t.test('a full disk and nobody to wait for: the oldest goes, the command does not wait', async (t) => {
  const { store } = newStore(t, { limit: 64 * KIB });
  const spool = store.create({ head: 1000, tail: 0 });
  spool.unclaimed = true;
  await fill(spool, 400_000);
  await spool.seal();
  t.ok(store.used <= 64 * KIB);
  t.strictSame(await spool.collect(0, 1000), pattern(0, 1000));
  const rest = spool.next(16 * KIB);
  t.ok(rest > 300_000);
  t.strictSame(await spool.collect(rest, 400_000), pattern(rest, 400_000));

  const heads = store.create(ALL);
  await fill(heads, 200_000);
  await heads.seal();
  t.equal(spool.next(0), 400_000, 'in the end results of old commands go too');
  t.ok((await heads.collect(0, 200_000)).length >= 48 * KIB);
});

t.test('a disk that cannot be written costs the output, not the command', async (t) => {
  const base = mkdtempSync(join(tmpdir(), 'yavm-spool-'));
  t.teardown(() => rmSync(base, { recursive: true }));
  writeFileSync(join(base, 'file'), '');
  const store = new SpoolStore({
    folder: join(base, 'file'),
    limit: 1e9,
    logger: silentLogger,
    sizes: SMALL,
  });
  const spool = store.create(ALL);
  await fill(spool, 100_000);
  await spool.seal();
  t.equal((await spool.collect(0, 100_000)).length, 0);
  t.equal(store.used, 0);
});

t.test('what is closed while it is written and read ends, and leaves nothing', async (t) => {
  const { store, folder } = newStore(t);
  const spool = store.create(ALL);
  await fill(spool, 50_000);
  const filling = fill(spool, 500_000);
  const reading = spool.collect(0, 50_000).then(
    () => 'read',
    ({ code }) => code,
  );
  await store.close();
  await filling;
  t.ok(['read', 'YAVM_E_SPOOL'].includes(await reading));
  t.notOk(existsSync(folder));
});

t.test('random writers and readers', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = 0; round < count(200); round++) {
    const keep = { head: random.pick([0, 5000, 1e9]), tail: random.pick([0, 3000, 30_000]) };
    const { store } = newStore(t);
    const spool = store.create(keep);
    const readers = Array.from({ length: random.between(0, 4) }, () => spool.attach(0));
    const total = random.between(0, 120_000);
    while (spool.length < total) {
      await spool.append(pattern(spool.length, Math.min(total, spool.length + random.between(1, 6000))));
      for (const reader of readers) {
        if (reader.position === spool.length || random.chance(3)) continue;
        if (spool.next(reader.position) !== reader.position) return t.fail('a reader missed something');
        const reading = spool.read(reader.position, random.between(1, 9000));
        const bytes = reading instanceof Promise ? await reading : reading;
        if (!Buffer.from(bytes).equals(pattern(reader.position, reader.position + bytes.length))) {
          return t.fail('other bytes');
        }
        spool.move(reader, reader.position + bytes.length);
      }
    }
    for (const reader of readers) spool.detach(reader);
    await spool.seal();
    const head = Math.min(keep.head, total);
    const tail = Math.max(0, total - keep.tail);
    if (!(await spool.collect(0, head)).equals(pattern(0, head))) return t.fail('the head');
    if (!(await spool.collect(tail, total)).equals(pattern(tail, total))) return t.fail('the tail');
  }
  t.pass('all as written');
});

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
