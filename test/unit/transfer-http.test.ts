import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type DownloadOptions, download, type Sink } from '../../host/transfer/http.ts';
import { holdTimers } from '../lib/held-timers.ts';
import { type Handler, serve, startServer } from '../lib/http-server.ts';
import { Random } from '../lib/random.ts';

const CONTENT = Buffer.from(new Random(3).bytes(200_000));
const OTHER = Buffer.from(new Random(4).bytes(200_000));
const ETAG = '"version-1"';
const TIMEOUTS = { connect: 60_000, headers: 60_000, stall: 60_000 };
/** Of no other timer, milliseconds. */
const STALL = 12_345;

/** Keeps what it gets; every byte may come once. */
class MemorySink implements Sink {
  content = Buffer.alloc(0);
  /** Bytes before it are there, as the download says. */
  size = 0;
  restarts = 0;

  async begin(): Promise<void> {
    if (this.content.length > 0) this.restarts++;
    this.content = Buffer.alloc(0);
    this.size = 0;
  }

  async write(pieces: Uint8Array[], at: number): Promise<void> {
    const bytes = Buffer.concat(pieces);
    const length = Math.max(this.content.length, at + bytes.byteLength);
    const content = Buffer.alloc(length);
    content.set(this.content);
    content.set(bytes, at);
    this.content = content;
  }

  advance(end: number): void {
    if (end < this.size) throw new Error(`back from ${this.size} to ${end}`);
    this.size = end;
  }
}

async function setUp(t: Test, handler: Handler) {
  const { origin, requests } = await startServer(t, handler);
  const sink = new MemorySink();
  const waits: number[] = [];
  const get = (path = '/file', options: Partial<DownloadOptions> = {}) =>
    download(new URL(path, origin), sink, {
      signal: new AbortController().signal,
      maxSize: 2 ** 30,
      timeouts: TIMEOUTS,
      sleep: async (milliseconds) => void waits.push(milliseconds),
      ...options,
    });
  return { origin, requests, sink, waits, get };
}

t.test('a file arrives whole, with progress', async (t) => {
  const { sink, get } = await setUp(t, (request, response) => serve(request, response, CONTENT));
  const seen: [number, number | null][] = [];
  const result = await get('/file', { onProgress: (done, total) => seen.push([done, total]) });
  t.strictSame(result, { size: CONTENT.length, pieced: false });
  t.ok(sink.content.equals(CONTENT));
  t.strictSame(seen.at(-1), [CONTENT.length, CONTENT.length]);
});

t.test('statuses that are no file fail at once, or are tried again', async (t) => {
  const table: [status: number, attempts: number][] = [
    [204, 1],
    [206, 1],
    [304, 1],
    [400, 1],
    [401, 1],
    [404, 1],
    [410, 1],
    [416, 1],
    [408, 3],
    [429, 3],
    [500, 3],
    [502, 3],
    [503, 3],
  ];
  for (const [status, attempts] of table) {
    const { sink, get, requests, waits } = await setUp(t, (_, response) => {
      response.writeHead(status).end(status === 204 || status === 304 ? undefined : '<html>sorry</html>');
    });
    const message = new RegExp(`^HTTP error: http://127\\.0\\.0\\.1:\\d+/file: the server answers ${status}`);
    await t.rejects(get(), { code: 'YAVM_E_HTTP', message }, `${status}`);
    t.equal(requests.length, attempts, `${status}`);
    t.strictSame(waits, [2000, 4000].slice(0, attempts - 1));
    t.equal(sink.size, 0);
  }
});

t.test('an error of the moment is tried again, and said', async (t) => {
  const { sink, get, waits } = await setUp(t, (request, response, index) => {
    if (index === 0) response.writeHead(503).end();
    else if (index === 1) response.socket?.resetAndDestroy();
    else serve(request, response, CONTENT);
  });
  const said: [number, string][] = [];
  await get('/file', { onRetry: (seconds, error) => said.push([seconds, error.message]) });
  t.ok(sink.content.equals(CONTENT));
  t.strictSame(waits, [2000, 4000]);
  t.match(said, [
    [2, /503/],
    [4, /ECONNRESET|hang up/],
  ]);
});

t.test('nobody listens: tried again, then said', async (t) => {
  const { get, waits } = await setUp(t, () => {});
  const { origin, close } = await startServer(t, () => {});
  await close();
  await t.rejects(get(`${origin}/file`), { code: 'YAVM_E_HTTP', message: /ECONNREFUSED/ });
  t.strictSame(waits, [2000, 4000]);
  await t.rejects(get('http://no-such-host.invalid/'), { code: 'YAVM_E_HTTP', message: /no-such-host/ });
});

t.test('redirects are followed, also relative ones', async (t) => {
  const { sink, get, origin, requests } = await setUp(t, (request, response) => {
    const targets: Record<string, [number, string]> = {
      '/a/start': [301, 'next?x=1'],
      '/a/next?x=1': [302, '/b'],
      '/b': [303, `${origin}/c`],
      '/c': [307, '../d'],
      '/d': [308, `//${new URL(origin).host}/file`],
    };
    const target = targets[request.url ?? ''];
    if (target) response.writeHead(target[0], { location: target[1] }).end('moved');
    else serve(request, response, CONTENT);
  });
  await get('/a/start');
  t.ok(sink.content.equals(CONTENT));
  t.equal(requests.length, 6);
});

t.test('redirects in circles, into nowhere, and away from HTTP', async (t) => {
  const { get, requests } = await setUp(t, (request, response) => {
    const targets: Record<string, string> = {
      '/circle': '/circle',
      '/file-scheme': 'file:///etc/passwd',
      '/ftp': 'ftp://host/x',
      '/bad': 'http://',
    };
    const location = targets[request.url ?? ''];
    response.writeHead(302, location === undefined ? {} : { location }).end();
  });
  await t.rejects(get('/circle'), { message: /more than 10 redirects/ });
  t.equal(requests.length, 11);
  await t.rejects(get('/file-scheme'), { message: /redirect to file:/ });
  await t.rejects(get('/ftp'), { message: /redirect to ftp:/ });
  await t.rejects(get('/bad'), { message: /leads nowhere/ });
  await t.rejects(get('/none'), { message: /leads nowhere/ });
});

t.test('credentials go to their own origin, and are never shown', async (t) => {
  const away = await startServer(t, (request, response) => {
    if (request.url === '/back') response.writeHead(302, { location: `${origin}/file` }).end();
    else serve(request, response, CONTENT);
  });
  const { get, origin, requests } = await setUp(t, (request, response) => {
    if (request.url === '/away') response.writeHead(302, { location: `${away.origin}/x` }).end();
    else if (request.url === '/round') response.writeHead(302, { location: `${away.origin}/back` }).end();
    else if (request.url === '/here') response.writeHead(302, { location: '/file' }).end();
    else if (request.url === '/404') response.writeHead(404).end();
    else serve(request, response, CONTENT);
  });
  const withUser = (path: string) => `${origin.replace('//', '//user:pa%20ss%ff@')}${path}`;
  const expected = `Basic ${Buffer.from('user:pa%20ss%ff').toString('base64')}`;
  for (const path of ['/here', '/away', '/round']) await get(withUser(path));
  t.strictSame(
    requests.map((request) => request.headers.authorization),
    Array(5).fill(expected),
    'here, its target, away, round, its return',
  );
  t.strictSame(
    away.requests.map((request) => request.headers.authorization),
    [undefined, undefined],
  );
  t.equal(requests.at(-1)?.url, '/file');
  const error = await get(withUser('/404')).catch((error) => error);
  t.match(error.message, /404/);
  t.notMatch(error.message, /user|pa/);
});

t.test('a body that breaks off goes on where it stopped', async (t) => {
  for (const validator of [{ etag: ETAG }, { lastModified: 'Tue, 24 Nov 2026 10:00:00 GMT' }]) {
    const { sink, get, requests, waits } = await setUp(t, (request, response, index) =>
      serve(request, response, CONTENT, {
        ...validator,
        ranges: true,
        cutAfter: index < 2 ? 50_000 : undefined,
      }),
    );
    t.strictSame(await get(), { size: CONTENT.length, pieced: true });
    t.ok(sink.content.equals(CONTENT));
    t.strictSame(
      requests.map((request) => request.headers.range),
      [undefined, 'bytes=50000-', 'bytes=100000-'],
    );
    t.strictSame([sink.restarts, waits.length], [0, 2]);
  }
});

t.test('without proof that it is the same file it is fetched from its beginning', async (t) => {
  const table: [what: string, handler: Handler][] = [
    [
      'no validator',
      (request, response, index) =>
        serve(request, response, CONTENT, { cutAfter: index ? undefined : 50_000 }),
    ],
    [
      'a weak ETag',
      (request, response, index) =>
        serve(request, response, CONTENT, {
          etag: 'W/"1"',
          ranges: true,
          cutAfter: index ? undefined : 50_000,
        }),
    ],
    [
      'no ranges',
      (request, response, index) =>
        serve(request, response, CONTENT, { etag: ETAG, cutAfter: index ? undefined : 50_000 }),
    ],
    [
      'another version',
      (request, response, index) =>
        serve(request, response, index ? CONTENT : OTHER, {
          etag: index ? '"version-2"' : ETAG,
          ranges: true,
          cutAfter: index ? undefined : 50_000,
        }),
    ],
    [
      'no size',
      (request, response, index) => {
        if (index) return serve(request, response, CONTENT, { etag: ETAG });
        serve(request, response, CONTENT, { etag: ETAG, length: null, cutAfter: 50_000 });
      },
    ],
  ];
  for (const [what, handler] of table) {
    const { sink, get, waits } = await setUp(t, handler);
    t.strictSame(await get(), { size: CONTENT.length, pieced: false }, what);
    t.ok(sink.content.equals(CONTENT), what);
    t.strictSame([sink.restarts, waits.length], [1, 1], what);
  }
});

t.test('a server that answers a range with something else', async (t) => {
  const rest = CONTENT.subarray(50_000);
  const range = (text: string) => ({ etag: ETAG, 'content-range': text });
  const table: [what: string, status: number, headers: Record<string, string>][] = [
    ['another offset', 206, range('bytes 0-199999/200000')],
    ['another size', 206, range('bytes 50000-199999/200001')],
    ['unknown size', 206, range('bytes 50000-199999/*')],
    ['another ETag', 206, { etag: '"x"', 'content-range': 'bytes 50000-199999/200000' }],
    ['no range', 206, { etag: ETAG }],
    ['not satisfiable', 416, { 'content-range': 'bytes */200000' }],
  ];
  for (const [what, status, headers] of table) {
    const { sink, get, waits } = await setUp(t, (request, response, index) => {
      if (index === 1) response.writeHead(status, headers).end(rest);
      else serve(request, response, CONTENT, { etag: ETAG, cutAfter: index ? undefined : 50_000 });
    });
    await get();
    t.ok(sink.content.equals(CONTENT), what);
    t.strictSame(waits, [2000, 4000], what);
  }
});

t.test('a server that lies about the length', async (t) => {
  const short = await setUp(t, (request, response) =>
    serve(request, response, CONTENT, { length: CONTENT.length + 5, cutAfter: CONTENT.length }),
  );
  await t.rejects(short.get(), { code: 'YAVM_E_HTTP' });
  t.equal(short.requests.length, 3);
  const long = await setUp(t, (request, response) =>
    serve(request, response, CONTENT, { length: 1000, cutAfter: CONTENT.length }),
  );
  // Whether the surplus is seen depends on when it arrives.
  const taken = await long.get().catch((error) => error);
  if (taken instanceof Error) t.match(taken, { code: 'YAVM_E_HTTP' });
  else t.ok(long.sink.content.equals(CONTENT.subarray(0, 1000)), 'what is announced, the hash decides');
});

t.test('an answer in another encoding than asked for is refused', async (t) => {
  const { get, requests } = await setUp(t, (request, response) => {
    response.setHeader('content-encoding', 'gzip');
    serve(request, response, CONTENT);
  });
  await t.rejects(get(), { message: /sends the file as "gzip"/ });
  t.equal(requests.length, 1);
});

t.test('a server that stalls, in each phase', async (t) => {
  const silent = await setUp(t, () => {});
  await t.rejects(silent.get('/file', { timeouts: { ...TIMEOUTS, headers: 20 } }), {
    message: /no answer within 0\.02 s/,
  });
  t.equal(silent.requests.length, 3);
  const stalling = await setUp(t, (request, response) =>
    serve(request, response, CONTENT, { etag: ETAG, ranges: true, stallAfter: 20_000 }),
  );
  await t.rejects(stalling.get('/file', { timeouts: { ...TIMEOUTS, stall: 50 } }), {
    message: /stalls: less than 16 KiB in 0\.05 s/,
  });
  t.equal(stalling.requests.length, 3);
  const dripping = await setUp(t, (request, response) => {
    const timer = setInterval(() => response.write('x'), 5);
    request.socket.once('close', () => clearInterval(timer));
  });
  await t.rejects(dripping.get('/file', { timeouts: { ...TIMEOUTS, stall: 100 } }), { message: /stalls/ });
});

t.test('a TLS handshake that never ends', async (t) => {
  const server = createTcpServer((socket) => socket.on('error', () => {}));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { get } = await setUp(t, () => {});
  const { port } = server.address() as AddressInfo;
  await t.rejects(get(`https://127.0.0.1:${port}/`, { timeouts: { ...TIMEOUTS, connect: 30 } }), {
    message: /no connection within 0\.03 s/,
  });
});

t.test('a slow disk is no stall, and its error is its own', async (t) => {
  const { sink, get, requests } = await setUp(t, (request, response) => serve(request, response, CONTENT));
  const stallTimePasses = holdTimers(t, STALL);
  const write = sink.write.bind(sink);
  sink.write = async (bytes, at) => {
    stallTimePasses();
    await write(bytes, at);
  };
  await get('/file', { timeouts: { ...TIMEOUTS, stall: STALL } });
  t.ok(sink.content.equals(CONTENT));
  // EPIPE is also the name of a connection's error, which would be tried again.
  const failure = Object.assign(new Error('write failed'), { code: 'EPIPE' });
  sink.write = () => Promise.reject(failure);
  t.equal(await get().catch((error) => error), failure);
  t.equal(requests.length, 2);
});

t.test('a connection that ends while the headers are looked at', async (t) => {
  const { sink, get, waits } = await setUp(t, (request, response, index) =>
    serve(request, response, CONTENT, index === 0 ? { resetAfter: 10 } : {}),
  );
  await get('/file', { onSize: () => new Promise((resolve) => setTimeout(resolve, 50)) });
  t.ok(sink.content.equals(CONTENT));
  t.equal(waits.length, 1);
});

t.test('large parts of a file earn new attempts', async (t) => {
  const large = Buffer.alloc(68 * 1024 * 1024, 'content ');
  const waits: number[] = [];
  const sink = new (class {
    begun = 0;
    async begin() {
      this.begun++;
    }
    async write() {}
    advance() {}
  })();
  const { origin } = await startServer(t, (request, response) =>
    serve(request, response, large, { etag: ETAG, ranges: true, cutAfter: 17 * 1024 * 1024 }),
  );
  const result = await download(new URL(origin), sink, {
    signal: new AbortController().signal,
    maxSize: 2 ** 30,
    lines: { connections: 1, segment: 2 ** 30, patience: 0 },
    sleep: async (milliseconds) => void waits.push(milliseconds),
  });
  t.equal(result.size, large.length);
  t.equal(sink.begun, 1);
  t.strictSame(waits, [2000, 2000, 2000]);
});

t.test('https, with its certificate checked', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-tls-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [key, cert] = [join(folder, 'key'), join(folder, 'cert')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
  try {
    const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    execFileSync('openssl', [...made, '-keyout', key, '-out', cert, ...subject], { stdio: 'ignore' });
  } catch {
    return t.pass('https', { skip: 'no openssl to make a certificate with' });
  }
  const tls = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
  const { sink, get, waits } = await setUp(t, () => {});
  const { origin } = await startServer(t, (request, response) => serve(request, response, CONTENT), tls);
  await t.rejects(get(origin), { code: 'YAVM_E_HTTP', message: /self-signed/ });
  t.strictSame(waits, [], 'a wrong certificate stays wrong');
  await get(origin, { ca: tls.cert });
  t.ok(sink.content.equals(CONTENT));
});
