/**
 * An image over a long line: a server that is a round trip away, and gives each connection so much and no more. What
 * several connections bring there, and segments of what size; on the loopback they bring nothing.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { sleep } from '../../host/lib/deadline.ts';
import type { Lines } from '../../host/transfer/http.ts';
import { leaseImage } from '../../host/transfer/image.ts';
import { taskPackage } from '../lib/http-server.ts';
import type { Bench } from './context.ts';
import type { Figure } from './figure.ts';
import { withOwner } from './owner.ts';

const SIZE = 256 * 1024 * 1024;
const CONTENT = Buffer.alloc(SIZE, 'an image that compresses well, which nobody asks it to. ');
/** Milliseconds of a round trip, and bytes a second of a connection: a server on another continent. */
const ROUND_TRIP = 80;
const RATE = 25e6;
/** Bytes that a new connection sends in its first round trip; twice as many in the next (RFC 6928). */
const FIRST_WINDOW = 14_600;

const MIB = 1024 * 1024;
/** What we use (fetching.ts). */
const DEFAULT: Lines = { connections: 4, segment: 32 * MIB, patience: 1000 };
const CHOICES: Lines[] = [
  DEFAULT,
  ...[1, 2, 8].map((connections) => ({ ...DEFAULT, connections })),
  ...[8, 128].map((mebibytes) => ({ ...DEFAULT, segment: mebibytes * MIB })),
];

export const line: Bench = {
  name: 'line',
  what: `an image of ${SIZE / MIB} MiB, ${ROUND_TRIP} ms away, ${RATE / 1e6} MB/s a connection`,
  run: () =>
    withOwner(async (owner) => {
      const server = new Worker(import.meta.filename);
      owner.teardown(() => void server.terminate());
      const [port] = await once(server, 'message');
      const folder = mkdtempSync('/var/tmp/ya-vm-bench-');
      owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
      const figures: Figure[] = [];
      for (const lines of CHOICES) {
        const { connections, segment } = lines;
        const url = `http://127.0.0.1:${port}/${connections}-${segment}`;
        const started = performance.now();
        const source = { taskPackage: taskPackage(url, CONTENT), cacheFolder: folder };
        const lease = await leaseImage({ ...source, lines });
        const seconds = (performance.now() - started) / 1000;
        await lease.release();
        rmSync(lease.path);
        const what = `${connections} connections, ${segment / MIB} MiB at a time at least`;
        figures.push({ what, value: SIZE / 1e6 / seconds, unit: 'MB/s' });
      }
      return figures;
    }),
};

/** Sends as a far server does: windows that double each round trip, until the connection's share is reached. */
async function send(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, start, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const from = Number(start ?? 0);
  const until = last ? Number(last) + 1 : SIZE;
  // Connection and request.
  await sleep(2 * ROUND_TRIP);
  const range = start === undefined ? {} : { 'content-range': `bytes ${from}-${until - 1}/${SIZE}` };
  response.writeHead(start === undefined ? 200 : 206, {
    etag: '"1"',
    'content-length': until - from,
    ...range,
  });
  const share = (RATE * ROUND_TRIP) / 1000;
  let next = performance.now();
  for (let at = from, window = FIRST_WINDOW; at < until && !response.destroyed; window *= 2) {
    const count = Math.min(window, share, until - at);
    response.write(CONTENT.subarray(at, at + count));
    at += count;
    next += ROUND_TRIP;
    await sleep(Math.max(0, next - performance.now()));
  }
  response.end();
}

// The server has a thread of its own, so that it takes nothing from the client's.
if (!isMainThread && parentPort) {
  const server = createServer((request, response) => void send(request, response));
  server.listen(0, '127.0.0.1', () => parentPort?.postMessage((server.address() as AddressInfo).port));
}
