import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import t, { type Test } from 'tap';
import { type HttpOptions, httpSource } from '../../host/transfer/http-source.ts';
import { makeCertificate } from '../lib/certificates.ts';
import { holdTimers } from '../lib/held-timers.ts';
import { type Handler, serve, startRawServer, startServer } from '../lib/http-server.ts';
import { LargeContent } from '../lib/large-content.ts';
import { Random } from '../lib/random.ts';
import { count, bytes as scaledBytes } from '../lib/scale.ts';

const CONTENT = Buffer.from(new Random(3).bytes(200_000));
const OTHER = Buffer.from(new Random(4).bytes(200_000));
const ETAG = '"version-1"';
const signal = new AbortController().signal;

interface Read {
  size: number | null;
  content: Buffer;
  error?: Error & { retry?: boolean };
}

/** Reads a source to its end or to its error. */
async function read(url: string, options: HttpOptions = {}): Promise<Read> {
  const pieces: Uint8Array[] = [];
  let size: number | null = null;
  let error: Error | undefined;
  try {
    const opened = await httpSource(new URL(url), { env: {}, sleep: async () => {}, ...options }).open({
      signal,
    });
    size = opened.size;
    for await (const piece of opened.bytes) pieces.push(Uint8Array.from(piece));
  } catch (thrown) {
    error = thrown as Error;
  }
  return { size, content: Buffer.concat(pieces), ...(error && { error }) };
}

t.test('a file, with its size when the server says it', async (t) => {
  for (const length of [undefined, null]) {
    const { origin, requests } = await startServer(t, (request, response) =>
      serve(request, response, CONTENT, { length }),
    );
    const { size, content, error } = await read(`${origin}/file`);
    t.strictSame([size, error], [length === null ? null : CONTENT.length, undefined]);
    t.ok(content.equals(CONTENT));
    const [{ method, headers }] = requests as [(typeof requests)[0]];
    t.strictSame([method, headers['accept-encoding'], headers.range], ['GET', 'identity', undefined]);
  }
  const empty = await startServer(t, (_, response) => response.writeHead(200, { 'content-length': 0 }).end());
  t.match(await read(empty.origin), { size: 0, error: undefined });
});

t.test('answers whose body ends by itself, rightly and wrongly', async (t) => {
  const head = 'HTTP/1.1 200 OK\r\n';
  const chunked = `${head}transfer-encoding: chunked\r\n\r\n`;
  const table: [
    what: string,
    answer: string,
    size: number | null,
    content: string,
    message?: RegExp,
    retry?: boolean,
  ][] = [
    ['HTTP/1.0, until the connection ends', 'HTTP/1.0 200 OK\r\n\r\nbody', null, 'body'],
    ['chunks', `${chunked}4\r\nbody\r\n0\r\n\r\n`, null, 'body'],
    ['trailers', `${chunked}4\r\nbody\r\n0\r\nx: y\r\n\r\n`, null, 'body'],
    ['more than announced', `${head}content-length: 4\r\n\r\nbody and more`, 4, '', /more bytes come/, false],
    [
      'less than announced',
      `${head}content-length: 9\r\n\r\nbody`,
      9,
      'body',
      /ended before the body did/,
      true,
    ],
    ['a chunk cut off', `${chunked}9\r\nbody`, null, 'body', /ended before the body did/, true],
    ['no last chunk', `${chunked}4\r\nbody\r\n`, null, 'body', /ended before the body did/, true],
    ['garbage for a chunk', `${chunked}4\r\nbody\r\nzz\r\n`, null, '', /is not HTTP/, false],
    ['garbage behind a chunk', `${chunked}4\r\nbodyXX0\r\n\r\n`, null, '', /is not HTTP/, false],
    ['a chunk of no size', `${chunked}ffffffffffffffffff\r\n`, null, '', /is not HTTP/, false],
    ['an absurd length', `${head}content-length: 9007199254740993\r\n\r\nbody`, null, '', /no number/, false],
    [
      'packed',
      `${head}content-encoding: gzip\r\ncontent-length: 4\r\n\r\nbody`,
      null,
      '',
      /sends the file as "gzip"/,
      false,
    ],
    ['empty by its status', 'HTTP/1.1 204 No Content\r\n\r\n', null, '', /answers 204/, false],
    [
      'a part, unasked',
      `HTTP/1.1 206 Partial Content\r\ncontent-length: 4\r\n\r\nbody`,
      null,
      '',
      /answers 206/,
      false,
    ],
  ];
  for (const [what, answer, size, content, message, retry] of table) {
    const origin = await startRawServer(t, (socket) => socket.once('data', () => socket.end(answer)));
    const got = await read(`${origin}/x?secret`);
    t.strictSame([got.size, got.content.toString()], [size, content], what);
    if (message) {
      t.match(got.error, { code: 'YAVM_E_HTTP', message, retry }, what);
      t.match(got.error?.message, /^HTTP error: http:\/\/127\.0\.0\.1:\d+\/x\?…: /, what);
    } else t.equal(got.error, undefined, what);
  }
});

t.test("statuses are errors with the server's words, and say whether they may pass", async (t) => {
  const table: [status: number, retry: boolean][] = [
    [400, false],
    [401, false],
    [403, false],
    [404, false],
    [410, false],
    [416, false],
    [304, false],
    [408, true],
    [429, true],
    [500, true],
    [502, true],
    [503, true],
  ];
  for (const [status, retry] of table) {
    const { origin, requests } = await startServer(t, (_, response) => {
      response.writeHead(status, 'Sorry', { 'content-type': 'text/plain' }).end('come back\nlater');
    });
    const { error, content } = await read(`${origin}/file`);
    const message = new RegExp(
      `/file: the server answers ${status} Sorry${status === 304 ? '' : ': "come back"'}$`,
    );
    t.match(error, { code: 'YAVM_E_HTTP', message, retry }, `${status}`);
    t.strictSame([requests.length, content.length], [1, 0], "trying again is the transfer's");
  }
});

t.test('a body that breaks off goes on where it stopped', async (t) => {
  for (const validator of [{ etag: ETAG }, { lastModified: 'Tue, 24 Nov 2026 10:00:00 GMT' }]) {
    const { origin, requests } = await startServer(t, (request, response, index) =>
      serve(request, response, CONTENT, {
        ...validator,
        ranges: true,
        cutAfter: index < 2 ? 50_000 : undefined,
      }),
    );
    const waits: number[] = [];
    const told: [number, string][] = [];
    const { content, error } = await read(origin, {
      sleep: async (milliseconds) => void waits.push(milliseconds),
      onRetry: (seconds, error) => told.push([seconds, error.message]),
    });
    t.equal(error, undefined);
    t.ok(content.equals(CONTENT));
    t.strictSame(
      requests.map(({ headers }) => [headers.range, headers['if-range']]),
      [
        [undefined, undefined],
        ['bytes=50000-', validator.etag ?? validator.lastModified],
        ['bytes=100000-', validator.etag ?? validator.lastModified],
      ],
    );
    t.strictSame(waits, [2000, 4000]);
    t.match(told, [
      [2, /ended before/],
      [4, /ended before/],
    ]);
  }
});

t.test('a break that cannot be mended is an error that passes', async (t) => {
  const first = (more: object): Handler => {
    return (request, response) =>
      serve(request, response, CONTENT, { etag: ETAG, ...more, cutAfter: 50_000 });
  };
  const rest = (status: number, headers: Record<string, string>): Handler => {
    return (_, response) => response.writeHead(status, headers).end(CONTENT.subarray(50_000));
  };
  const whole: Handler = (request, response) => serve(request, response, OTHER, { etag: '"version-2"' });
  const right = { etag: ETAG, 'content-range': 'bytes 50000-199999/200000' };
  const changed = /cannot be continued, the file has changed$/;
  const table: [what: string, first: Handler, second: Handler, requests: number, message: RegExp][] = [
    ['a weak ETag', first({ etag: 'W/"1"' }), whole, 1, /ended before/],
    ['no validator', first({ etag: undefined }), whole, 1, /ended before/],
    ['no length', first({ length: null }), whole, 1, /ended before/],
    ['the whole file to a range', first({}), whole, 2, changed],
    ['another file', first({}), rest(206, { ...right, etag: '"version-2"' }), 2, changed],
    [
      'another offset',
      first({}),
      rest(206, { ...right, 'content-range': 'bytes 0-149999/200000' }),
      2,
      changed,
    ],
    [
      'another size',
      first({}),
      rest(206, { ...right, 'content-range': 'bytes 50000-199999/200001' }),
      2,
      changed,
    ],
    ['unknown size', first({}), rest(206, { ...right, 'content-range': 'bytes 50000-199999/*' }), 2, changed],
    ['no ETag any more', first({}), rest(206, { 'content-range': 'bytes 50000-199999/200000' }), 2, changed],
    ['not satisfiable', first({}), rest(416, { 'content-range': 'bytes */10' }), 2, changed],
    ['unavailable for ever', first({}), rest(503, {}), 3, /answers 503/],
  ];
  for (const [what, one, two, expected, message] of table) {
    const { origin, requests } = await startServer(t, (request, response, index) =>
      (index === 0 ? one : two)(request, response, index),
    );
    const { error, content } = await read(origin);
    t.match(error, { code: 'YAVM_E_HTTP', message, retry: true }, what);
    t.ok(content.equals(CONTENT.subarray(0, content.length)), `${what}: nothing of another file`);
    t.equal(requests.length, expected, what);
  }
  const gone = await startServer(t, (request, response, index) =>
    index === 0 ? first({})(request, response, index) : response.writeHead(404).end(),
  );
  t.match((await read(gone.origin)).error, { message: /answers 404/, retry: false }, 'gone for good');
});

t.test('a rest of another length than promised', async (t) => {
  for (const [length, message] of [
    [1000, /only 51000 of 200000 bytes came/],
    [150_000, undefined],
  ] as const) {
    const { origin } = await startServer(t, (request, response, index) => {
      if (index === 0) return serve(request, response, CONTENT, { etag: ETAG, cutAfter: 50_000 });
      const headers = { etag: ETAG, 'content-range': 'bytes 50000-199999/200000', 'content-length': length };
      response.writeHead(206, headers).end(CONTENT.subarray(50_000, 50_000 + length));
      if (index > 1) response.socket?.destroy();
    });
    const { error, content } = await read(origin);
    if (message) t.match(error, { retry: true });
    else t.ok(content.equals(CONTENT));
  }
});

t.test('a server that stalls in the middle; a reader that takes its time', async (t) => {
  const stalling = await startServer(t, (request, response) =>
    serve(request, response, CONTENT, { etag: ETAG, ranges: true, stallAfter: 20_000 }),
  );
  const { error } = await read(stalling.origin, { timeouts: { stall: 40 } });
  t.match(error, { message: /stalls: less than 16 KiB in 0\.04 s/, retry: true });
  t.equal(stalling.requests.length, 3, 'continued twice, where it stalled again');
  const { origin } = await startServer(t, (request, response) => serve(request, response, CONTENT));
  const stall = 12_345;
  const stallTimePasses = holdTimers(t, stall);
  const source = httpSource(new URL(origin), { env: {}, timeouts: { stall } });
  const { bytes } = await source.open({ signal });
  let size = 0;
  for await (const piece of bytes) {
    size += piece.byteLength;
    stallTimePasses();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.equal(size, CONTENT.length);
});

t.test('whoever leaves a body, or aborts, leaves no connection', async (t) => {
  const connections: Socket[] = [];
  const { origin, server } = await startServer(t, (request, response) =>
    serve(request, response, CONTENT, { stallAfter: 100_000 }),
  );
  server.on('connection', (socket: Socket) => connections.push(socket));
  const closed = () => {
    const socket = connections.at(-1);
    return socket?.closed || new Promise((resolve) => socket?.once('close', resolve));
  };
  const source = httpSource(new URL(origin), { env: {} });
  const left = await source.open({ signal });
  for await (const _ of left.bytes) break;
  await closed();
  const read = new AbortController();
  const { bytes } = await source.open(read);
  const reading = (async () => {
    for await (const _ of bytes);
  })();
  read.abort(new Error('stop'));
  await t.rejects(reading, { message: 'stop' });
  await closed();
  const never = new AbortController();
  await source.open(never);
  never.abort();
  await closed();
  t.equal(connections.length, 3);
});

/** Sends content that need not be kept, until its end or `until`. */
async function sendLarge(content: LargeContent, response: ServerResponse, start: number, until: number) {
  function* pieces() {
    let at = start;
    for (const piece of content.pieces(start)) {
      const rest = piece.subarray(0, until - at);
      if (rest.length > 0) yield Buffer.from(rest);
      at += rest.length;
      if (at >= until) return;
    }
  }
  await pipeline(pieces, response, { end: until >= content.size }).catch(() => {});
  if (until < content.size) response.socket?.destroySoon();
}

/** One point in each of `parts` equal parts, in order. */
function randomPoints(random: Random, size: number, parts: number): number[] {
  const part = Math.floor(size / parts);
  return Array.from({ length: parts }, (_, index) => index * part + random.between(1, part));
}

async function testLarge(t: Test, tls: ReturnType<typeof makeCertificate> | undefined) {
  const content = new LargeContent(scaledBytes(2 ** 30));
  const expected = content.hash();
  const random = new Random();
  const points = randomPoints(random, content.size, count(20));
  t.comment(`seed ${random.seed}: breaks at ${points}`);
  const { origin, requests } = await startServer(
    t,
    (request, response, index) => {
      const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const rest = content.size - start;
      const range = { 'content-range': `bytes ${start}-${content.size - 1}/${content.size}` };
      response.writeHead(start > 0 ? 206 : 200, {
        etag: ETAG,
        'content-length': rest,
        ...(start > 0 && range),
      });
      void sendLarge(content, response, start, points[index] ?? Number.POSITIVE_INFINITY);
    },
    tls,
  );
  const source = httpSource(new URL(origin), { env: {}, ca: tls?.cert, sleep: async () => {} });
  const { size, bytes } = await source.open({ signal });
  t.equal(size, content.size);
  const hash = createHash('sha3-256');
  for await (const piece of bytes) hash.update(piece);
  t.equal(hash.digest('hex'), expected);
  t.equal(requests.length, points.length + 1);
  for (const { headers } of requests.slice(1)) t.match(headers.range, /^bytes=\d+-$/);
}

t.test('much content, broken off at random points, over http', (t) => testLarge(t, undefined));
t.test('much content, broken off at random points, over https', (t) => testLarge(t, makeCertificate()));
