import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { hashFile, StreamHasher } from '../../host/transfer/hash.ts';
import { HashedFile } from '../../host/transfer/hashed-file.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

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

t.test('a file is written and hashed, in its order and otherwise, from memory of any kind', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = count(40); round > 0; round--) {
    // Part of something larger: memory that is a piece's alone is gone with it.
    const content = Buffer.from(random.bytes(random.between(1, 3_000_000))).subarray(1);
    const fd = file(t);
    const hashed = new HashedFile(fd, 'sha3-224');
    t.teardown(() => hashed.close());
    const parts: { at: number; size: number }[] = [];
    for (let at = 0; at < content.length; at += parts.at(-1)?.size ?? 0) {
      parts.push({ at, size: Math.min(random.between(1, 200_000), content.length - at) });
    }
    // All in order, most of it, or nothing.
    const swaps = random.pick([0, 2, parts.length]);
    for (let swap = swaps; swap > 0 && parts.length > 1; swap--) {
      const [one, other] = [random.between(0, parts.length), random.between(0, parts.length)];
      [parts[one], parts[other]] = [parts[other] ?? { at: 0, size: 0 }, parts[one] ?? { at: 0, size: 0 }];
    }
    const there = new Map<number, number>();
    let end = 0;
    const write = async ({ at, size }: { at: number; size: number }) => {
      const bytes = content.subarray(at, at + size);
      const middle = random.between(0, size + 1);
      const own = new Uint8Array(bytes);
      const shared = new Uint8Array(new SharedArrayBuffer(size));
      shared.set(bytes);
      const [first, second] = [bytes.subarray(0, middle), bytes.subarray(middle)];
      await hashed.write(
        random.pick([[bytes], [own], [shared], [first, second], [first, own.subarray(middle)]]),
        at,
      );
      shared.fill(0);
      there.set(at, at + size);
      for (let next = there.get(end); next !== undefined; next = there.get(end)) end = next;
      hashed.advance(end);
    };
    const under: Promise<void>[] = [];
    for (const part of parts) {
      under.push(write(part));
      if (random.chance(3)) await under.at(-1);
    }
    await Promise.all(under);
    t.equal(end, content.length);
    t.equal(await hashed.digest(), createHash('sha3-224').update(content).digest('hex'), `${swaps} swaps`);
    const found = Buffer.alloc(content.length);
    readSync(fd, found, 0, found.length, 0);
    t.ok(found.equals(content));
  }
});

t.test('a write that fails: said as the system does, or tried again with the same bytes', async (t) => {
  const full = openSync('/dev/full', 'r+');
  t.teardown(() => closeSync(full));
  const seen: Error[] = [];
  const hashed = new HashedFile(full, 'sha3-224', async (error) => {
    seen.push(error);
    return seen.length < 3;
  });
  t.teardown(() => hashed.close());
  const writes = [
    hashed.write([new Uint8Array(1000), Buffer.alloc(10)], 0),
    hashed.write([Buffer.alloc(10)], 1010),
  ];
  const errors = await Promise.all(writes.map((write) => write.catch((error) => error)));
  const error = { code: 'ENOSPC', syscall: 'write', message: /^ENOSPC: no space left on device/ };
  t.match(errors, [error, error]);
  t.equal(seen.length, 4, 'each is asked about until it may not be tried again');
  await hashed.close();
  await t.rejects(hashed.write([new Uint8Array(1)], 0), { message: /given up/ });
});

t.test('writes that nobody does any more', async (t) => {
  const hashed = new HashedFile(file(t), 'sha3-224');
  const writes = Array.from({ length: 20 }, (_, index) =>
    hashed.write([new Uint8Array(1_000_000)], index * 1_000_000).catch((error) => error),
  );
  await hashed.close();
  t.match((await Promise.all(writes)).at(-1), { message: /given up/ });
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
