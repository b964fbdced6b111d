/** A file hashed as an image is, beside openssl; and the same bytes in passing. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { hashFile, StreamHasher } from '../../host/transfer/hash.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const SIZE = 1024 ** 3;
const PIECE = 1024 ** 2;
const ROUNDS = 3;
const ALGORITHMS = ['sha3-224', 'sha3-256'] as const;
/** Of openssl's rate. */
const LEAST = 0.9;

export const hash: Bench = {
  name: 'hash',
  what: `${SIZE / 1024 ** 2} MiB, ${ROUNDS} times each`,
  run: () =>
    withOwner(async (owner) => {
      const folder = mkdtempSync('/var/tmp/ya-vm-bench-');
      owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
      const file = join(folder, 'file');
      const fd = openSync(file, 'w+');
      owner.teardown(() => closeSync(fd));
      const piece = Buffer.alloc(PIECE, 'bytes that no hash minds. ');
      for (let at = 0; at < SIZE; at += PIECE) writeSync(fd, piece);

      const figures: Figure[] = [];
      for (const algorithm of ALGORITHMS) {
        const times: Record<'openssl' | 'file' | 'stream', number[]> = { openssl: [], file: [], stream: [] };
        for (let round = 0; round < ROUNDS; round++) {
          times.openssl.push(await timed(() => execFileSync('openssl', ['dgst', `-${algorithm}`, file])));
          times.file.push(await timed(() => hashFile(fd, SIZE, algorithm)));
          times.stream.push(await timed(() => hashStream(fd, algorithm)));
        }
        const rate = (of: keyof typeof times) => SIZE / 1e3 / median(times[of]);
        figures.push(
          { what: `${algorithm}, openssl`, value: rate('openssl'), unit: 'MB/s' },
          { what: `${algorithm}, a file`, value: rate('file'), unit: 'MB/s' },
          {
            what: `${algorithm}, a file ÷ openssl`,
            value: rate('file') / rate('openssl'),
            unit: '×',
            limit: { atLeast: LEAST },
          },
          { what: `${algorithm}, a stream`, value: rate('stream'), unit: 'MB/s' },
        );
      }
      return figures;
    }),
};

async function hashStream(fd: number, algorithm: (typeof ALGORITHMS)[number]): Promise<void> {
  const hasher = new StreamHasher(algorithm);
  const piece = new Uint8Array(64 * 1024);
  for (let at = 0; at < SIZE; at += piece.length) {
    readSync(fd, piece, 0, piece.length, at);
    await hasher.update(piece);
  }
  await hasher.digest();
  await hasher.close();
}

async function timed(work: () => unknown): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
