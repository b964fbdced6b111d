import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { hashFile, StreamHasher } from '../../host/transfer/hash.ts';
import { HashedFile } from '../../host/transfer/hashed-file.ts';
import { Random } from '../lib/random.ts';

const ALGORITHMS = ['sha3-224', 'sha3-256', 'sha3-384', 'sha3-512'] as const;

function file(t: Test): number {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-hash-'));
  const fd = openSync(join(folder, 'file'), 'w+');
  t.teardown(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });
  return fd;
}

t.test('a file is hashed by each algorithm', async (t) => {
  const fd = file(t);
  const content = new Random(5).bytes(3_000_000);
  writeSync(fd, content);
  for (const algorithm of ALGORITHMS) {
    const expected = createHash(algorithm).update(content).digest('hex');
    t.equal(await hashFile(fd, content.length, algorithm), expected, algorithm);
    const empty = createHash(algorithm).digest('hex');
    t.equal(await hashFile(fd, 0, algorithm), empty, `${algorithm} of nothing`);
  }
});

t.test('a file is hashed while it grows', async (t) => {
  const fd = file(t);
  const hasher = new HashedFile(fd, 'sha3-256');
  t.teardown(() => hasher.close());
  const hash = createHash('sha3-256');
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  let size = 0;
  for (let round = 0; round < 200; round++) {
    const bytes = random.bytes(random.between(0, 20_000));
    hash.update(bytes);
    size += writeSync(fd, bytes);
    hasher.advance(size);
    if (random.chance(10)) await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal(await hasher.digest(), hash.digest('hex'));
});

t.test('64 MiB are hashed without holding up this thread', async (t) => {
  const fd = file(t);
  const size = 64 * 1024 * 1024;
  ftruncateSync(fd, size);
  // On this thread there would be no turn of the loop at all before the end.
  let turns = 0;
  const timer = setInterval(() => turns++, 5);
  await hashFile(fd, size, 'sha3-512');
  clearInterval(timer);
  t.ok(turns > 5, `the loop went on: ${turns} turns`);
});

t.test('a file that becomes shorter is an error, a signal an end', async (t) => {
  const fd = file(t);
  writeSync(fd, new Uint8Array(1000));
  await t.rejects(hashFile(fd, 1001, 'sha3-224'), { message: /became shorter/ });
  ftruncateSync(fd, 2 ** 40);
  const abort = new AbortController();
  const reason = new Error('enough');
  const running = hashFile(fd, 2 ** 40, 'sha3-224', abort.signal);
  setImmediate(() => abort.abort(reason));
  await t.rejects(running, reason);
  await t.rejects(hashFile(fd, 1, 'sha3-224', abort.signal), reason);
});

t.test('a hash that is given up', async (t) => {
  const hasher = new HashedFile(file(t), 'sha3-224');
  await hasher.close();
  await t.rejects(hasher.digest(), { message: /given up/ });
});

t.test('a stream is hashed in pieces of any size, by each algorithm', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (const algorithm of [...ALGORITHMS, 'sha256'] as const) {
    const hasher = new StreamHasher(algorithm);
    t.teardown(() => hasher.close());
    const hash = createHash(algorithm);
    const sizes = [0, 1, ...Array.from({ length: 50 }, () => random.between(1, 100_000)), 5_000_000];
    for (const size of sizes) {
      const bytes = random.bytes(size);
      hash.update(bytes);
      const done = hasher.update(bytes);
      bytes.fill(0);
      if (random.chance(2)) await done;
    }
    t.equal(await hasher.digest(), hash.digest('hex'), algorithm);
    await t.rejects(hasher.update(new Uint8Array(1)), { message: /after the digest/ });
  }
  const nothing = new StreamHasher('sha3-256');
  t.teardown(() => nothing.close());
  t.equal(await nothing.digest(), createHash('sha3-256').digest('hex'));
});

t.test('who gives a stream faster than it is hashed waits, and the loop goes on', async (t) => {
  const hasher = new StreamHasher('sha3-512');
  t.teardown(() => hasher.close());
  const piece = new Uint8Array(1024 * 1024);
  let waited = 0;
  let turns = 0;
  const timer = setInterval(() => turns++, 5);
  for (let round = 0; round < 64; round++) {
    let atOnce = false;
    const done = hasher.update(piece).then(() => {
      atOnce = true;
    });
    await Promise.resolve();
    await Promise.resolve();
    if (!atOnce) waited++;
    await done;
  }
  await hasher.digest();
  clearInterval(timer);
  t.ok(waited > 30, `${waited} of 64 pieces waited`);
  t.ok(turns > 5, `the loop went on: ${turns} turns`);
});

t.test('a stream’s hash that is given up, or has no such algorithm', async (t) => {
  const hasher = new StreamHasher('sha3-256');
  const waiting = hasher.update(new Uint8Array(64 * 1024 * 1024));
  await hasher.close();
  await t.rejects(waiting, { message: /given up/ });
  await t.rejects(hasher.digest(), { message: /given up/ });
  await t.rejects(hasher.update(new Uint8Array(1)));
  const unknown = new StreamHasher('md-none' as 'sha256');
  t.teardown(() => unknown.close());
  await t.rejects(unknown.digest(), { message: /digest/i });
});
