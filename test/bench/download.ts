/** An image from the loopback into the cache, hashed; beside it curl, which hashes nothing, and curl followed by openssl. */
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { fetchImage } from '../../host/transfer/image.ts';
import { taskPackage } from '../lib/http-server.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const SIZE = 64 * 1024 * 1024;
const ROUNDS = 7;
const CONTENT = Buffer.alloc(SIZE, 'an image that compresses well, which nobody asks it to. ');

export const download: Bench = {
  name: 'download',
  what: `an image of ${SIZE / 1024 ** 2} MiB over the loopback, ${ROUNDS} times`,
  run: ({ say }) =>
    withOwner(async (owner) => {
      const server = new Worker(import.meta.filename);
      owner.teardown(() => void server.terminate());
      const [port] = await once(server, 'message');
      // Where caches are, not in memory: /tmp may be a tmpfs.
      const folder = mkdtempSync('/var/tmp/ya-vm-bench-');
      owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
      const compared = spawnSync('curl', ['--version']).error === undefined;
      if (!compared) say('no curl here to compare with');

      const times: Record<'ours' | 'curl' | 'hashed', number[]> = { ours: [], curl: [], hashed: [] };
      for (let round = 0; round < ROUNDS; round++) {
        const url = `http://127.0.0.1:${port}/${round}.gvmi`;
        const source = taskPackage(url, CONTENT);
        times.ours.push(await timed(() => fetchImage({ taskPackage: source, cacheFolder: folder })));
        if (!compared) continue;
        const file = join(folder, `${round}.curl`);
        const curl = await timed(() => execFileSync('curl', ['-sSf', '-o', file, url]));
        times.curl.push(curl);
        times.hashed.push(curl + (await timed(() => execFileSync('openssl', ['dgst', '-sha3-224', file]))));
      }
      return figures(times);
    }),
};

async function timed(work: () => unknown): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

function figures({ ours, curl, hashed }: Record<'ours' | 'curl' | 'hashed', number[]>): Figure[] {
  const rate = (what: string, times: number[]): Figure => ({
    what,
    value: SIZE / 1e3 / median(times),
    unit: 'MB/s',
  });
  const result = [rate('fetched and checked', ours)];
  if (curl.length === 0) return result;
  const ratio = (times: number[]) => median(times.map((time, round) => time / (ours[round] as number)));
  return [
    ...result,
    rate('curl', curl),
    rate('curl, then openssl', hashed),
    { what: 'ours ÷ curl', value: ratio(curl), unit: '×' },
    { what: 'ours ÷ curl, then openssl', value: ratio(hashed), unit: '×' },
  ];
}

// The server has a thread of its own, so that it takes nothing from the client's.
if (!isMainThread && parentPort) {
  const server = createServer((_, response) => {
    response.setHeader('content-length', SIZE).end(CONTENT);
  });
  server.listen(0, '127.0.0.1', () => parentPort?.postMessage((server.address() as AddressInfo).port));
}
