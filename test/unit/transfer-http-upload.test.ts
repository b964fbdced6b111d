import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import t, { type Test } from 'tap';
import { type HttpOptions, httpSource } from '../../host/transfer/http-source.ts';
import { httpDestination } from '../../host/transfer/http-upload.ts';
import { TransferProgress } from '../../host/transfer/progress.ts';
import { transfer } from '../../host/transfer/transfer.ts';
import { type Certificate, makeCertificate } from '../lib/certificates.ts';
import { type Handler, startRawServer, startServer } from '../lib/http-server.ts';
import { LargeContent } from '../lib/large-content.ts';
import { Random } from '../lib/random.ts';
import { bytes as scaledBytes } from '../lib/scale.ts';

const CONTENT = Buffer.from(new Random(5).bytes(300_000));
const signal = new AbortController().signal;

/** In pieces, each in the same memory as the one before, as sources may do it. `asked` counts. */
function source(content: Uint8Array, { piece = 70_000, fail }: { piece?: number; fail?: Error } = {}) {
  const asked = { pieces: 0, closed: false };
  async function* bytes() {
    const memory = Buffer.alloc(piece);
    try {
      for (let at = 0; at < content.length; at += piece) {
        asked.pieces++;
        const end = Math.min(content.length, at + piece);
        memory.set(content.subarray(at, end));
        yield memory.subarray(0, end - at);
        memory.fill(0);
      }
      if (fail) throw fail;
    } finally {
      asked.closed = true;
    }
  }
  return { asked, bytes: bytes() };
}

async function* endless() {
  const piece = Buffer.alloc(2 ** 20);
  for (;;) yield piece;
}

interface Put {
  size?: number | null;
  bytes?: AsyncIterable<Uint8Array>;
}

/** The error of an upload, or undefined. */
async function put(url: string, content: Put = {}, options: HttpOptions = {}) {
  const { size = CONTENT.length, bytes = source(CONTENT).bytes } = content;
  const destination = httpDestination(new URL(url), { env: {}, ...options });
  return await destination.write({ size, bytes }, { signal }).then(
    () => undefined,
    (error: Error & { retry?: boolean }) => error,
  );
}

/** Takes everything, and keeps it. */
async function startTaking(t: Test, tls?: Certificate) {
  const taken: { content: Buffer; request: IncomingMessage }[] = [];
  const server = await startServer(
    t,
    async (request, response) => {
      const pieces = await request.toArray().catch(() => null);
      if (pieces === null) return;
      taken.push({ content: Buffer.concat(pieces), request });
      response.writeHead(201).end('made');
    },
    tls,
  );
  return { ...server, taken };
}

t.test('content arrives whole, its size known or not', async (t) => {
  const { origin, taken } = await startTaking(t);
  const table: [size: number | null, content: Buffer, piece: number][] = [
    [CONTENT.length, CONTENT, 70_000],
    [null, CONTENT, 70_000],
    [CONTENT.length, CONTENT, CONTENT.length],
    [1000, CONTENT.subarray(0, 1000), 1],
    [1, CONTENT.subarray(0, 1), 1],
    [0, Buffer.alloc(0), 1],
    [null, Buffer.alloc(0), 1],
  ];
  for (const [size, content, piece] of table) {
    const { bytes, asked } = source(content, { piece });
    const url = `${origin.replace('//', '//me:pa%20ss@')}/to/file?query`;
    t.equal(await put(url, { size, bytes }), undefined);
    const got = taken.at(-1);
    t.ok(got?.content.equals(content), `${size} in pieces of ${piece}`);
    t.match(got?.request, { method: 'PUT', url: '/to/file?query' });
    t.strictSame(
      [got?.request.headers['content-length'], got?.request.headers['transfer-encoding']],
      size === null ? [undefined, 'chunked'] : [`${size}`, undefined],
    );
    t.equal(got?.request.headers.authorization, `Basic ${btoa('me:pa ss')}`);
    t.ok(asked.closed);
  }
});

/** As {@link startServer}, where requests that expect an invitation get none by themselves. */
async function startExpecting(t: Test, handler: Handler, tls?: Certificate) {
  const server = await startServer(t, handler, tls);
  const onRequest = server.server.listeners('request')[0] as (
    ...both: [IncomingMessage, ServerResponse]
  ) => void;
  server.server.on('checkContinue', onRequest);
  return server;
}

const words = { 'content-type': 'text/plain' };

t.test('a server that refuses before the body is sent nothing', async (t) => {
  const table: [status: number, retry: boolean][] = [
    [401, false],
    [403, false],
    [413, false],
    [429, true],
    [503, true],
    [304, false],
  ];
  for (const [status, retry] of table) {
    let received = 0;
    const { origin } = await startExpecting(t, (request, response) => {
      request.on('data', (piece) => (received += piece.length));
      response.writeHead(status, 'No', words).end('your quota is used up\nby you');
    });
    const { bytes, asked } = source(CONTENT);
    const error = await put(`${origin}/x?secret`, { bytes });
    const ending = status === 304 ? '' : ': "your quota is used up"';
    const message = `HTTP error: ${origin}/x?…: the server answers ${status} No${ending}`;
    t.match(error, { code: 'YAVM_E_HTTP', message, retry }, `${status}`);
    t.strictSame([asked.pieces, received], [0, 0], `${status}`);
  }
});

t.test('servers that know no invitation', async (t) => {
  // Says nothing until it has everything, as HTTP/1.0 does.
  const silent = await startRawServer(t, (socket) => {
    let got = Buffer.alloc(0);
    socket.on('data', (data) => {
      got = Buffer.concat([got, data]);
      if (got.length >= got.indexOf('\r\n\r\n') + 4 + CONTENT.length) socket.end('HTTP/1.0 200 OK\r\n\r\n');
    });
  });
  t.equal(await put(silent), undefined);
  const { origin, requests } = await startExpecting(t, async (request, response) => {
    if (request.headers.expect) return response.writeHead(417).end();
    const content = Buffer.concat(await request.toArray());
    response.writeHead(content.equals(CONTENT) ? 200 : 400).end();
  });
  t.equal(await put(origin), undefined, 'asked again without');
  t.equal(requests.length, 2);
});

t.test('a server that answers before the body has ended', async (t) => {
  for (const destroys of [false, true]) {
    const { origin } = await startServer(t, (request, response) => {
      request.once('data', () => {
        response.writeHead(413, words).end('too much');
        if (destroys) response.once('finish', () => request.socket.destroySoon());
        else request.resume();
      });
    });
    const error = await put(origin, { size: null, bytes: endless() });
    // A connection that is closed with bytes unread may take the answer with it.
    if (destroys && error?.retry)
      t.match(error, { code: 'YAVM_E_HTTP', message: /ECONNRESET|EPIPE|hang up|ended/ });
    else t.match(error, { code: 'YAVM_E_HTTP', message: /413 Payload Too Large: "too much"$/, retry: false });
  }
  const early = await startServer(t, async (request, response) => {
    response.writeHead(200).end();
    sizes.push(Buffer.concat(await request.toArray()).length);
    done();
  });
  const sizes: number[] = [];
  let done = () => {};
  const all = new Promise<void>((resolve) => {
    done = resolve;
  });
  t.equal(await put(early.origin, { size: null }), undefined, 'a success too early does not end the upload');
  await all;
  t.strictSame(sizes, [CONTENT.length]);
});

t.test('a server that answers with an error when it has everything', async (t) => {
  for (const [status, retry] of [
    [400, false],
    [500, true],
    [507, true],
  ] as const) {
    const { origin } = await startServer(t, async (request, response) => {
      await request.toArray();
      response.writeHead(status, words).end('no room');
    });
    const message = new RegExp(`${status} .*: "no room"$`);
    t.match(await put(origin), { code: 'YAVM_E_HTTP', message, retry });
  }
});

t.test('a server that goes away, and ones that do not move', async (t) => {
  const patient = { stall: 60_000, headers: 60_000 };
  const impatient = { stall: 100, headers: 60 };
  /** It gets everything first. */
  const silent = { stall: 3000, headers: 60 };
  const after = (bytes: number, act: (socket: Socket) => void) =>
    startRawServer(t, (socket) => {
      let size = 0;
      const onData = (data: Buffer) => {
        size += data.length;
        if (size < bytes) return;
        socket.off('data', onData);
        act(socket);
      };
      socket.write('HTTP/1.1 100 Continue\r\n\r\n');
      socket.on('data', onData);
    });
  const broken = /ECONNRESET|EPIPE|hang up|connection closed/;
  const table: [what: string, server: string, content: Put, message: RegExp, retry?: boolean][] = [
    ['closes at once', await startRawServer(t, (socket) => socket.destroy()), {}, broken, true],
    [
      'closes in the middle',
      await after(100_000, (socket) => socket.destroy()),
      { size: null, bytes: endless() },
      broken,
      true,
    ],
    ['resets in the middle', await after(100_000, (socket) => socket.resetAndDestroy()), {}, broken, true],
    [
      'reads no more',
      await after(100_000, (socket) => socket.pause()),
      { size: null, bytes: endless() },
      /the upload stalls: nothing moves within 0\.1 s$/,
      true,
    ],
    [
      'says that all is well, and reads no more',
      await after(1, (socket) => void socket.pause().write('HTTP/1.1 200 OK\r\n\r\n')),
      { size: null, bytes: endless() },
      /the upload stalls: nothing moves within 0\.1 s$/,
      true,
    ],
    [
      'says that all is well, and then nonsense',
      await after(1, (socket) => socket.end('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n')),
      { size: null, bytes: endless() },
      /is not HTTP|ended before|ECONNRESET|EPIPE/,
      undefined,
    ],
    ['never answers', await after(1, (socket) => socket.resume()), {}, /no answer within 3\.06 s$/, true],
    [
      'speaks something else',
      await after(1, (socket) => socket.end('SSH-2.0\r\n')),
      {},
      /is not HTTP/,
      false,
    ],
    [
      'changes the protocol',
      await after(1, (socket) => socket.end('HTTP/1.1 101 X\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n')),
      {},
      /changes the protocol/,
      false,
    ],
    ['nobody there', 'http://127.0.0.1:1', {}, /ECONNREFUSED/, true],
  ];
  for (const [what, server, content, message, retry] of table) {
    const timeouts = what === 'never answers' ? silent : /stalls/.test(message.source) ? impatient : patient;
    const error = await put(`${server}/x?secret`, content, { timeouts });
    t.match(error, { code: 'YAVM_E_HTTP', message, retry: retry ?? Boolean }, what);
    t.match(error?.message, /^HTTP error: http:\/\/127\.0\.0\.1:\d+\/x\?…: /, what);
  }
});

t.test('a source that fails leaves the server with a part that it knows to be one', async (t) => {
  const failure = new Error('the hash is wrong');
  for (const size of [CONTENT.length, null]) {
    let ended: (whole: boolean) => void = () => {};
    const outcome = new Promise<boolean>((resolve) => {
      ended = resolve;
    });
    const { origin } = await startServer(t, (request) => {
      request.on('error', () => {}).once('close', () => ended(request.complete));
      request.resume();
    });
    t.equal(await put(origin, { size, bytes: source(CONTENT, { fail: failure }).bytes }), failure);
    t.equal(await outcome, false, `${size}`);
  }
  for (const [size, message] of [
    [CONTENT.length + 1, /only 300000 of 300001 bytes/],
    [CONTENT.length - 1, /more than 299999 bytes/],
  ] as const) {
    const { origin, taken } = await startTaking(t);
    t.match(await put(origin, { size }), { code: 'YAVM_E_HTTP', message, retry: false });
    t.equal(taken.length, 0);
  }
});

t.test('redirects are followed before the first byte, and only those that keep the method', async (t) => {
  const tls = makeCertificate();
  const other = await startTaking(t);
  const handler: Handler = async (request, response) => {
    const [, status, to] = /^\/(\d+)\/(.*)$/.exec(request.url ?? '') ?? [];
    if (status)
      return response.writeHead(Number(status), { location: decodeURIComponent(to ?? '') }).end('moved');
    if (request.headers.expect) response.writeContinue();
    await request.toArray();
    response.writeHead(200).end(request.headers.authorization);
  };
  const here = await startExpecting(t, handler);
  const secure = await startExpecting(t, handler, tls);
  const to = (status: number, target: string) => `/${status}/${encodeURIComponent(target)}`;
  const table: [what: string, url: string, message?: RegExp][] = [
    ['307, relative', `${here.origin}${to(307, '/file')}`],
    ['308, absolute', `${here.origin}${to(308, `${here.origin}/file`)}`],
    ['two', `${here.origin}${to(307, to(308, '/file'))}`],
    ['another host', `${here.origin.replace('//', '//me:secret@')}${to(307, `${other.origin}/file`)}`],
    ['from http to https', `${here.origin}${to(307, `${secure.origin}/file`)}`],
    [
      '301',
      `${here.origin}${to(301, '/file?query')}`,
      /answers 301: it redirects the upload to http:\S+\/file\?…$/,
    ],
    ['302', `${here.origin}${to(302, '/file')}`, /answers 302: it redirects the upload to http:\S+\/file$/],
    ['303', `${here.origin}${to(303, '/file')}`, /answers 303: /],
    [
      'from https to http',
      `${secure.origin}${to(307, `${here.origin}/file`)}`,
      /from https to http: http:\S+\/file$/,
    ],
    ['nowhere', `${here.origin}/307/`, /more than 10 redirects|leads nowhere/],
    ['to a file', `${here.origin}${to(307, 'file:///etc/passwd')}`, /a redirect to file:/],
    ['to where nobody may', `${here.origin}${to(307, 'http://169.254.169.254/')}`, /169\.254\.169\.254 is/],
  ];
  for (const [what, url, message] of table) {
    const { bytes, asked } = source(CONTENT);
    const error = await put(url, { bytes }, { ca: tls.cert });
    if (message === undefined) t.equal(error, undefined, what);
    else {
      t.match(error?.message, message, what);
      t.notMatch(error?.message, /secret|file\?query/, what);
      t.equal(asked.pieces, 0, what);
    }
  }
  t.strictSame(
    other.taken.map(({ content, request }) => [content.equals(CONTENT), request.headers.authorization]),
    [[true, undefined]],
    'whole, and without the credentials',
  );
  const late = await startServer(t, async (request, response) => {
    await request.toArray();
    response.writeHead(307, { location: '/elsewhere' }).end();
  });
  const error = await put(late.origin);
  t.match(
    error,
    { message: /answers 307: it redirects the upload to \S+\/elsewhere$/, retry: false },
    'after the body',
  );
  const circle = await startExpecting(t, (_, response) => response.writeHead(307, { location: '/' }).end());
  t.match(await put(circle.origin), { message: /more than 10 redirects$/ });
  t.equal(circle.requests.length, 11);
});

t.test('an abort breaks the request off', async (t) => {
  let closed: () => void = () => {};
  const gone = new Promise<void>((resolve) => {
    closed = resolve;
  });
  let begun: () => void = () => {};
  const beginning = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const { origin } = await startServer(t, (request) => {
    request.on('error', () => {}).once('data', begun);
    request.socket.once('close', closed);
  });
  const abort = new AbortController();
  const writing = httpDestination(new URL(origin), { env: {} }).write(
    { size: null, bytes: endless() },
    abort,
  );
  await beginning;
  abort.abort(new Error('stop'));
  await t.rejects(writing, { message: 'stop' });
  await gone;
});

t.test('certificates are checked before anything is sent', async (t) => {
  const { origin, requests } = await startTaking(t, makeCertificate());
  t.match(await put(origin), { code: 'YAVM_E_HTTP', message: /certificate is not accepted/, retry: false });
  t.equal(requests.length, 0);
});

/** From a server to a server, with its hash checked on the way. */
async function testLarge(t: Test, from: Certificate | undefined, to: Certificate | undefined) {
  const content = new LargeContent(scaledBytes(2 ** 30));
  const hex = content.hash();
  const giving = await startServer(
    t,
    async (_, response) => {
      response.writeHead(200, { 'content-length': content.size });
      for (const piece of content.pieces()) {
        await new Promise((resolve) => response.write(piece, resolve));
      }
      response.end();
    },
    from,
  );
  const hash = createHash('sha3-256');
  const taking = await startServer(
    t,
    async (request, response) => {
      for await (const piece of request) hash.update(piece);
      response.end();
    },
    to,
  );
  const size = await transfer(
    {
      from: httpSource(new URL(giving.origin), { env: {}, ca: from?.cert }),
      to: httpDestination(new URL(taking.origin), { env: {}, ca: to?.cert }),
      digest: { algorithm: 'sha3-256', hex },
    },
    { signal, progress: new TransferProgress(() => {}) },
  );
  t.equal(size, content.size);
  t.equal(hash.digest('hex'), hex);
}

t.test('much content from http to https', (t) => testLarge(t, undefined, makeCertificate()));
t.test('much content from https to http', (t) => testLarge(t, makeCertificate(), undefined));
