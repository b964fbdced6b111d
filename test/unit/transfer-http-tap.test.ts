/** Large bodies, which go from their connection into shared memory. */
import type { Socket } from 'node:net';
import t, { type Test } from 'tap';
import { type DownloadOptions, download, type Sink } from '../../host/transfer/http.ts';
import { Ring } from '../../host/transfer/ring.ts';
import { makeCertificate } from '../lib/certificates.ts';
import { holdTimers } from '../lib/held-timers.ts';
import { type Handler, serve, startRawServer, startServer } from '../lib/http-server.ts';
import { contentOf } from '../lib/image-cache.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const MIB = 1024 * 1024;
const CONTENT = contentOf(9 * MIB, 1);
const TIMEOUTS = { connect: 60_000, headers: 60_000, stall: 60_000 };
/** Of no other timer, milliseconds. */
const STALL = 12_345;

t.test('a ring gives what it was given, in its order', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = count(40); round > 0; round--) {
    const size = random.between(1, 5000);
    const ring = new Ring(size);
    const content = Buffer.from(random.bytes(40_000));
    const given: Uint8Array[] = [];
    let [at, wrong, taken] = [0, 0, 0];
    while (taken < content.length) {
      const what = random.pick([0, 1, 2, 3]);
      if (what === 0) {
        const bytes = content.subarray(at, at + random.between(0, ring.room + 1));
        ring.put(bytes);
        at += bytes.length;
      } else if (what === 1) {
        const space = ring.space();
        if (space.length === 0 && ring.room > 0) wrong++;
        const bytes = content.subarray(at, at + space.length);
        space.set(bytes);
        ring.fill(bytes.length);
        at += bytes.length;
      } else if (what === 2) {
        for (const piece of ring.take(random.between(1, size + 1))) {
          given.push(piece);
          if (!content.subarray(taken, taken + piece.length).equals(piece)) wrong++;
          taken += piece.length;
        }
      } else {
        ring.free(given.shift()?.length ?? 0);
      }
      // What was taken and not freed stays as it is.
      let from = taken - given.reduce((sum, { length }) => sum + length, 0);
      for (const piece of given) {
        if (!content.subarray(from, from + piece.length).equals(piece)) wrong++;
        from += piece.length;
      }
    }
    t.equal(wrong, 0, `${size} bytes`);
  }
  t.throws(() => new Ring(5).put(new Uint8Array(6)), RangeError);
  t.end();
});

/** Keeps copies; counts what is in shared memory, as only the bytes of a tap are. */
class SharedSink implements Sink {
  content = Buffer.alloc(0);
  shared = 0;
  /** Bytes taken and not stored yet. */
  held = 0;
  mostHeld = 0;
  /** What a write waits for. */
  before: () => Promise<void> = async () => {};

  async begin(): Promise<void> {
    this.content = Buffer.alloc(0);
  }

  async write(pieces: Uint8Array[], at: number): Promise<void> {
    const size = pieces.reduce((sum, { length }) => sum + length, 0);
    this.held += size;
    this.mostHeld = Math.max(this.mostHeld, this.held);
    await this.before();
    this.held -= size;
    if (pieces.some(({ buffer }) => buffer instanceof SharedArrayBuffer)) this.shared += size;
    const content = Buffer.alloc(Math.max(this.content.length, at + size));
    content.set(this.content);
    content.set(Buffer.concat(pieces), at);
    this.content = content;
  }

  advance(): void {}
}

const certificate = makeCertificate();
const schemes = [
  ['http', undefined],
  ['https', certificate],
] as const;

function fetchInto(sink: Sink, origin: string, options: Partial<DownloadOptions> = {}) {
  return download(new URL('/file', origin), sink, {
    signal: new AbortController().signal,
    maxSize: 2 ** 30,
    timeouts: TIMEOUTS,
    ca: certificate.cert,
    env: {},
    sleep: async () => {},
    ...options,
  });
}

for (const [scheme, tls] of schemes) {
  const setUp = async (t: Test, handler: Handler) => {
    const { origin, requests } = await startServer(t, handler, tls);
    const sink = new SharedSink();
    const fetch = (options?: Partial<DownloadOptions>) => fetchInto(sink, origin, options);
    return { sink, requests, fetch };
  };

  t.test(`${scheme}: a body arrives in shared memory, all but what came with its headers`, async (t) => {
    const { sink, fetch } = await setUp(t, (request, response) => serve(request, response, CONTENT));
    t.strictSame(await fetch(), { size: CONTENT.length, pieced: false });
    t.ok(sink.content.equals(CONTENT));
    t.equal(sink.shared, CONTENT.length);
  });

  t.test(`${scheme}: late readers, redirects, and bodies of any length`, async (t) => {
    const { sink, fetch } = await setUp(t, (request, response) => {
      if (request.url === '/file') response.writeHead(302, { location: '/other' }).end();
      else serve(request, response, CONTENT);
    });
    // Meanwhile the streams take what they can.
    await fetch({ onSize: () => new Promise((resolve) => setTimeout(resolve, 50)) });
    t.ok(sink.content.equals(CONTENT));
    t.equal(sink.shared, CONTENT.length);
    const random = new Random();
    t.comment(`seed ${random.seed}`);
    for (const length of [0, 1, MIB - 1, MIB, MIB + 1, random.between(MIB, 3 * MIB)]) {
      const content = CONTENT.subarray(0, length);
      const { sink, fetch } = await setUp(t, (request, response) => serve(request, response, content));
      await fetch();
      t.ok(sink.content.equals(content), `${length} bytes`);
    }
  });

  t.test(`${scheme}: chunks are not tapped`, async (t) => {
    const { sink, fetch } = await setUp(t, (request, response) =>
      serve(request, response, CONTENT, { length: null }),
    );
    t.strictSame(await fetch(), { size: CONTENT.length, pieced: false });
    t.ok(sink.content.equals(CONTENT));
    t.equal(sink.shared, 0);
  });

  t.test(`${scheme}: a connection that breaks off at any point is continued`, async (t) => {
    const random = new Random();
    t.comment(`seed ${random.seed}`);
    for (let round = count(20); round > 0; round--) {
      const { sink, requests, fetch } = await setUp(t, (request, response, index) => {
        // Node's TLS knows no reset.
        const how = tls ? 'cutAfter' : random.pick(['cutAfter', 'resetAfter']);
        const breaks = index < 2 ? { [how]: random.between(0, 4 * MIB) } : {};
        serve(request, response, CONTENT, { etag: '"1"', ranges: true, ...breaks });
      });
      await fetch();
      t.ok(sink.content.equals(CONTENT));
      t.equal(requests.length, 3);
    }
  });

  t.test(`${scheme}: a slow disk is no stall, holds the server up, and its error is its own`, async (t) => {
    const { sink, fetch, requests } = await setUp(t, (request, response) =>
      serve(request, response, CONTENT),
    );
    const stallTimePasses = holdTimers(t, STALL);
    sink.before = async () => {
      stallTimePasses();
      // Bytes could come meanwhile.
      for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    };
    await fetch({ timeouts: { ...TIMEOUTS, stall: STALL } });
    t.ok(sink.content.equals(CONTENT));
    t.ok(sink.mostHeld <= 3 * MIB, `${sink.mostHeld} bytes at a time`);
    const failure = Object.assign(new Error('write failed'), { code: 'EPIPE' });
    sink.before = () => Promise.reject(failure);
    t.equal(await fetch().catch((error) => error), failure);
    t.equal(requests.length, 2);
  });

  t.test(`${scheme}: a stall, a signal, a limit`, async (t) => {
    const { fetch } = await setUp(t, (request, response) =>
      serve(request, response, CONTENT, { stallAfter: 3 * MIB }),
    );
    const stalled = fetch({ timeouts: { ...TIMEOUTS, stall: 60 } });
    await t.rejects(stalled, { code: 'YAVM_E_HTTP', message: /stalls: less than 16 KiB/ });
    const abort = new AbortController();
    const reason = new Error('enough');
    const onProgress = (done: number) => done > 2 * MIB && abort.abort(reason);
    await t.rejects(fetch({ signal: abort.signal, onProgress }), reason);
    await t.rejects(fetch({ maxSize: CONTENT.length - 1 }), { message: /larger than/ });
  });
}

t.test('bytes behind the end are an error when they come with it, and else nobody’s', async (t) => {
  const head = `HTTP/1.1 200 OK\r\ncontent-length: ${CONTENT.length}\r\n\r\n`;
  const behind = (socket: Socket) => {
    socket.once('data', () => socket.end(Buffer.concat([Buffer.from(head), CONTENT, Buffer.from('more')])));
  };
  const sink = new SharedSink();
  await t.rejects(fetchInto(sink, await startRawServer(t, behind)), {
    code: 'YAVM_E_HTTP',
    message: /more bytes come than were announced/,
  });
  const open = (socket: Socket) => {
    socket.once('data', () => socket.write(Buffer.concat([Buffer.from(head), CONTENT])));
  };
  t.strictSame(await fetchInto(sink, await startRawServer(t, open)), {
    size: CONTENT.length,
    pieced: false,
  });
  t.ok(sink.content.equals(CONTENT), 'a server that leaves its connection open');
});
