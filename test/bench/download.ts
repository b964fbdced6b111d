/**
 * An image from the loopback into the cache, hashed, over http and https; beside it curl, which hashes nothing, and openssl,
 * which does nothing else. The slower of the two is what can be had.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { fetchImage } from '../../host/transfer/image.ts';
import { type Certificate, makeCertificate } from '../lib/certificates.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const MIB = 1024 * 1024;
/** The image is these bytes, again and again. */
const PIECE = Buffer.alloc(MIB, 'an image that compresses well, which nobody asks it to. ');
const SIZE = 512 * MIB;
const ROUNDS = 5;
/** Of the slower one's rate. */
const LEAST = 0.7;

type Times = Record<'ours' | 'curl' | 'openssl', number[]>;

export const download: Bench = {
  name: 'download',
  what: `an image of ${SIZE / MIB} MiB over the loopback, ${ROUNDS} times each`,
  run: ({ say }) =>
    withOwner(async (owner) => {
      const certificate = makeCertificate();
      // Where caches are, not in memory: /tmp may be a tmpfs.
      const folder = mkdtempSync('/var/tmp/ya-vm-bench-');
      owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
      writeFileSync(join(folder, 'ca'), certificate.cert);
      const compared = spawnSync('curl', ['--version']).error === undefined;
      if (!compared) say('no curl here to compare with');
      const hash = createHash('sha3-224');
      for (let at = 0; at < SIZE; at += MIB) hash.update(PIECE);
      const digest = hash.digest('hex');

      const figures: Figure[] = [];
      for (const scheme of ['http', 'https']) {
        const server = new Worker(import.meta.filename, {
          workerData: scheme === 'https' ? certificate : null,
        });
        owner.teardown(() => void server.terminate());
        const [port] = await once(server, 'message');
        const times: Times = { ours: [], curl: [], openssl: [] };
        for (let round = 0; round < ROUNDS; round++) {
          const url = `${scheme}://127.0.0.1:${port}/${round}.gvmi`;
          const taskPackage = `hash:sha3:${digest}:${url}`;
          const fetch = () => fetchImage({ taskPackage, cacheFolder: folder, ca: certificate.cert });
          let image = '';
          times.ours.push(
            await timed(async () => {
              image = await fetch();
            }),
          );
          rmSync(image);
          if (!compared) continue;
          const file = join(folder, 'curl');
          const curl = ['-sSf', '--cacert', join(folder, 'ca'), '-o', file, url];
          times.curl.push(await timed(() => execFileSync('curl', curl)));
          times.openssl.push(await timed(() => execFileSync('openssl', ['dgst', '-sha3-224', file])));
          rmSync(file);
        }
        figures.push(...figuresOf(scheme, times));
        await server.terminate();
      }
      return figures;
    }),
};

async function timed(work: () => unknown): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

function figuresOf(scheme: string, { ours, curl, openssl }: Times): Figure[] {
  const rate = (what: string, times: number[]): Figure => ({
    what: `${scheme}, ${what}`,
    value: SIZE / 1e3 / median(times),
    unit: 'MB/s',
  });
  const result = [rate('fetched and checked', ours)];
  if (curl.length === 0) return result;
  const slower = Math.max(median(curl), median(openssl));
  const ratio = slower / median(ours);
  const limit = { atLeast: LEAST };
  return [
    ...result,
    rate('curl', curl),
    rate('openssl', openssl),
    { what: `${scheme}, ours ÷ the slower of them`, value: ratio, unit: '×', limit },
  ];
}

/** As file servers do: a strong ETag, and ranges. */
async function send(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, start, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const from = Number(start ?? 0);
  const until = last ? Number(last) + 1 : SIZE;
  const range = start === undefined ? {} : { 'content-range': `bytes ${from}-${until - 1}/${SIZE}` };
  response.writeHead(start === undefined ? 200 : 206, {
    etag: '"1"',
    'content-length': until - from,
    ...range,
  });
  let wake = () => {};
  response.on('drain', () => wake()).on('close', () => wake());
  for (let at = from; at < until && !response.destroyed; ) {
    const piece = PIECE.subarray(at % MIB, (at % MIB) + until - at);
    at += piece.length;
    const drained = new Promise<void>((resolve) => {
      wake = resolve;
    });
    if (!response.write(piece) && !response.destroyed) await drained;
  }
  response.end();
}

// The server has a thread of its own, so that it takes nothing from the client's.
if (!isMainThread && parentPort) {
  const tls = workerData as Certificate | null;
  const onRequest = (request: IncomingMessage, response: ServerResponse) => void send(request, response);
  const server = tls ? createTlsServer(tls, onRequest) : createServer(onRequest);
  server.listen(0, '127.0.0.1', () => parentPort?.postMessage((server.address() as AddressInfo).port));
}
