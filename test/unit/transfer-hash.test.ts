import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { FileHasher, hashFile } from '../../host/transfer/hash.ts';
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
  const hasher = new FileHasher(fd, 'sha3-256');
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
  const hasher = new FileHasher(file(t), 'sha3-224');
  await hasher.close();
  await t.rejects(hasher.digest(), { message: /given up/ });
});
