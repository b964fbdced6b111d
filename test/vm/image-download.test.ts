/** Images that take a while, as activities download them: one download for two, and a node that goes on hearing of usage. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import type { ActivityEvent } from '../../host/node/activity-service.ts';
import { setUp } from '../lib/exe-unit-activity.ts';
import { LargeContent } from '../lib/large-content.ts';
import { bytes, soak } from '../lib/scale.ts';

const LONG = { timeout: 600_000 };
const SIZE = bytes(1024 ** 3);
/** How long the server takes at least, seconds. */
const SECONDS = 6;

interface Slow {
  origin: string;
  /** Bytes that all requests together were sent. */
  sent: number;
  requests: number;
}

/** A server that sends no faster than in {@link SECONDS}, whole files only. */
async function serveSlowly(t: Test, content: LargeContent): Promise<Slow> {
  const slow: Slow = { origin: '', sent: 0, requests: 0 };
  const server = createServer(async (_request, response) => {
    slow.requests++;
    const left = once(response, 'close');
    response.setHeader('content-length', content.size);
    const began = performance.now();
    let at = 0;
    for (const piece of content.pieces()) {
      const due = began + (at / content.size) * SECONDS * 1000;
      const early = due - performance.now();
      if (early > 5) await new Promise((resolve) => setTimeout(resolve, early));
      if (response.destroyed) return;
      if (!response.write(Buffer.from(piece))) {
        await Promise.race([once(response, 'drain'), left]);
      }
      at += piece.length;
      slow.sent += piece.length;
    }
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  slow.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return slow;
}

t.test(
  'two activities want one image: one download, with usage and progress all the while',
  LONG,
  async (t) => {
    const content = new LargeContent(SIZE);
    const slow = await serveSlowly(t, content);
    const taskPackage = `hash:sha3:${content.hash('sha3-224')}:${slow.origin}/large.gvmi`;
    const scene = await setUp(t, undefined, { taskPackage });
    const usage: ActivityEvent[] = [];
    scene.node.service.listen((event) => void (event.kind === 'usage' && usage.push(event)));
    const [first, second] = [await scene.begin(), await scene.begin()];
    const began = performance.now();
    const deploy = [{ deploy: { progress: { updateInterval: '0s' } } }];
    const batches = [await first.requestor.exec(deploy), await second.requestor.exec(deploy)];
    const watched = [first, second].map(async ({ requestor }, index) => {
      const seen: { done: number; message: string | null }[] = [];
      for await (const event of requestor.stream(batches[index] as string)) {
        if (event.kind === 'progress') seen.push({ done: event.progress[0], message: event.message });
      }
      return seen;
    });
    const results = await Promise.all([
      first.requestor.finished(batches[0] as string),
      second.requestor.finished(batches[1] as string),
    ]);
    const seconds = (performance.now() - began) / 1000;
    // It is whole, and then found to be no image: nothing here needs to boot.
    for (const [result] of results) t.match(result, { ok: false, message: /YAVM_E_IMAGE_/ });
    for (const [result] of results) t.notMatch(result?.message, /DOWNLOAD|HASH/);
    t.equal(slow.sent, SIZE, 'sent once');
    for (const seen of await Promise.all(watched)) {
      t.ok(seen.length >= 2 && seen.length <= 4 * (seconds + 1), `${seen.length} reports in ${seconds} s`);
      t.equal(seen.at(-1)?.done, SIZE, 'the last one says all');
    }
    for (const { activity } of [first, second]) {
      const reports = usage.filter((event) => event.activity === activity.activity).length;
      t.ok(
        reports >= (soak ? 0.8 : 0.3) * Math.floor(seconds),
        `${reports} reports of usage in ${seconds.toFixed(1)} s`,
      );
    }
  },
);
