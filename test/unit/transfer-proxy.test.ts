import { once } from 'node:events';
import { request as sendRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { proxyFor } from '../../host/transfer/http-proxy.ts';
import { httpSource } from '../../host/transfer/http-source.ts';
import { httpDestination } from '../../host/transfer/http-upload.ts';
import { makeCertificate } from '../lib/certificates.ts';
import { startRawServer, startServer } from '../lib/http-server.ts';

const NO_PROXY: [list: string, url: string, bypassed: boolean][] = [
  ['*', 'http://anything/', true],
  ['example.com', 'http://example.com/', true],
  ['EXAMPLE.com', 'http://Example.COM/', true],
  ['example.com', 'http://example.com./', true],
  ['example.com', 'http://www.example.com/', true],
  ['.example.com', 'http://www.example.com/', true],
  ['.example.com', 'http://example.com/', true],
  ['*.example.com', 'http://www.example.com/', true],
  ['example.com', 'http://notexample.com/', false],
  ['example.com', 'http://example.com.evil/', false],
  ['a, b ,c', 'http://b/', true],
  ['a b', 'http://b/', true],
  [',,', 'http://b/', false],
  ['example.com:8080', 'http://example.com:8080/', true],
  ['example.com:8080', 'http://example.com/', false],
  ['example.com:80', 'http://example.com/', true],
  ['example.com:443', 'https://example.com/', true],
  ['127.0.0.1', 'http://127.0.0.1:9/', true],
  ['127.0.0.1', 'http://0x7f.1/', true],
  ['10.0.0.0/8', 'http://10.200.3.4/', true],
  ['10.0.0.0/8', 'http://11.0.0.1/', false],
  ['10.0.0.0/33', 'http://10.0.0.1/', false],
  ['10.0.0.0/x', 'http://10.0.0.1/', false],
  ['0.0.1', 'http://10.0.0.1/', false],
  ['::1', 'http://[::1]/', true],
  ['[::1]', 'http://[::1]:9/', true],
  ['[::1]:9', 'http://[::1]:9/', true],
  ['[::1]:9', 'http://[::1]/', false],
  ['fd00::/8', 'http://[fd12::1]/', true],
  ['fd00::/8', 'http://[fe12::1]/', false],
];

t.test('which requests take a proxy', async (t) => {
  const http = { http_proxy: 'http://p:1' };
  const table: [env: Record<string, string>, url: string, proxy: string | null][] = [
    [{}, 'http://a/', null],
    [http, 'http://a/', 'http://p:1/'],
    [http, 'https://a/', null],
    [{ https_proxy: 'http://p:1' }, 'https://a/', 'http://p:1/'],
    [{ HTTP_PROXY: 'http://P:1' }, 'http://a/', 'http://p:1/'],
    [{ http_proxy: 'http://p:1', HTTP_PROXY: 'http://q:1' }, 'http://a/', 'http://p:1/'],
    [{ http_proxy: '', HTTP_PROXY: 'http://q:1' }, 'http://a/', 'http://q:1/'],
    [{ http_proxy: ' p:3128 ' }, 'http://a/', 'http://p:3128/'],
    [{ http_proxy: 'user:pw@p:3128' }, 'http://a/', 'http://user:pw@p:3128/'],
    [{ https_proxy: 'https://p' }, 'https://a/', 'https://p/'],
    ...NO_PROXY.map(([list, url, bypassed]): [Record<string, string>, string, string | null] => [
      { http_proxy: 'http://p:1', https_proxy: 'http://p:1', no_proxy: list },
      url,
      bypassed ? null : 'http://p:1/',
    ]),
    [{ ...http, NO_PROXY: 'a' }, 'http://a/', null],
    [{ ...http, no_proxy: 'b', NO_PROXY: 'a' }, 'http://a/', 'http://p:1/'],
  ];
  for (const [env, url, proxy] of table) {
    t.equal(proxyFor(new URL(url), env)?.href ?? null, proxy, `${JSON.stringify(env)} ${url}`);
  }
});

t.test('a variable that names no proxy, without its value', async (t) => {
  for (const value of [
    'http://',
    'http://secret@',
    'socks5://user:secret@p:1',
    'http://secret:x:y',
    'ftp://p',
  ]) {
    const error = t.throws(() => proxyFor(new URL('http://a/'), { http_proxy: value }), {
      code: 'YAVM_E_PROXY',
      message: /^http_proxy /,
    }) as Error;
    t.notMatch(error.message, /secret/);
  }
});

interface Asked {
  method?: string;
  url?: string;
  authorization?: string;
  proxyAuthorization?: string;
}

/** A proxy that does its work, for requests and for tunnels. */
async function startProxy(t: Test, tls?: { key: string; cert: string }) {
  const asked: Asked[] = [];
  const sockets = new Set<Socket>();
  const note = ({
    method,
    url,
    headers,
  }: {
    method?: string;
    url?: string;
    headers: NodeJS.Dict<string | string[]>;
  }) =>
    asked.push({
      method,
      url,
      authorization: headers.authorization as string | undefined,
      proxyAuthorization: headers['proxy-authorization'] as string | undefined,
    });
  const { server, origin } = await startServer(
    t,
    (request, response) => {
      note(request);
      const onward = sendRequest(request.url ?? '', { method: request.method, headers: request.headers });
      onward.on('response', (answer) => {
        response.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(response);
      });
      onward.on('error', () => response.destroy());
      request.pipe(onward);
    },
    tls,
  );
  server.on('connect', (request, socket: Socket) => {
    note(request);
    const { hostname, port } = new URL(`http://${request.url}`);
    const onward = connect(Number(port), hostname, () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.pipe(onward).pipe(socket);
    });
    for (const end of [socket, onward]) {
      sockets.add(end);
      end.on('error', () => {});
    }
  });
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  return { origin, asked };
}

const CONTENT = Buffer.from('through a proxy');
const signal = new AbortController().signal;

async function readAll(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(Uint8Array.from(piece));
  return Buffer.concat(pieces);
}

async function startTarget(t: Test, tls?: { key: string; cert: string }) {
  const received: Buffer[] = [];
  const target = await startServer(
    t,
    async (request, response) => {
      if (request.method === 'PUT') {
        received.push(Buffer.concat(await request.toArray()));
        response.end();
      } else response.end(CONTENT);
    },
    tls,
  );
  return { ...target, received };
}

async function* single(bytes: Uint8Array) {
  yield bytes;
}

t.test('both ends, http and https, through a proxy of either kind', async (t) => {
  const certificate = makeCertificate();
  const target = { http: await startTarget(t), https: await startTarget(t, certificate) };
  for (const proxyTls of [undefined, certificate]) {
    const proxy = await startProxy(t, proxyTls);
    const address = proxy.origin.replace('//', '//me:pa%20ss@');
    const options = { env: { http_proxy: address, https_proxy: address }, ca: certificate.cert };
    for (const scheme of ['http', 'https'] as const) {
      proxy.asked.length = 0;
      const { origin, requests, received } = target[scheme];
      const url = new URL(`${origin.replace('//', '//user:word@')}/file?query`);
      const { size, bytes } = await httpSource(url, options).open({ signal });
      t.equal(size, CONTENT.length);
      t.ok((await readAll(bytes)).equals(CONTENT));
      await httpDestination(url, options).write({ size: null, bytes: single(CONTENT) }, { signal });
      t.ok(received.at(-1)?.equals(CONTENT));
      t.strictSame(
        requests.slice(-2).map(({ url, headers }) => [url, headers.authorization, headers.host]),
        Array(2).fill(['/file?query', `Basic ${btoa('user:word')}`, new URL(origin).host]),
        'the server sees no proxy',
      );
      const proxyAuthorization = `Basic ${btoa('me:pa ss')}`;
      const { host } = new URL(origin);
      const expected: Asked[] =
        scheme === 'https'
          ? ['CONNECT', 'CONNECT'].map((method) => ({
              method,
              url: host,
              authorization: undefined,
              proxyAuthorization,
            }))
          : ['GET', 'PUT'].map((method) => ({
              method,
              url: `${origin}/file?query`,
              authorization: `Basic ${btoa('user:word')}`,
              proxyAuthorization,
            }));
      t.strictSame(proxy.asked, expected);
    }
  }
  t.ok(
    target.https.requests.every(({ headers }) => headers['proxy-authorization'] === undefined),
    'through a tunnel the password of the proxy stays there',
  );
});

t.test('a proxy that does not do its work', async (t) => {
  const answering = (text: string) =>
    startRawServer(t, (socket) => socket.once('data', () => socket.end(text)));
  const silent = await startRawServer(t, () => {});
  const closed = await startRawServer(t, (socket) => socket.destroy());
  const table: [what: string, proxy: string, message: RegExp, retry: boolean][] = [
    [
      'wants a password',
      await answering('HTTP/1.1 407 Proxy Auth\r\n\r\n'),
      /CONNECT host\.example:443: .* 407 Proxy Auth$/,
      false,
    ],
    ['is busy', await answering('HTTP/1.1 503 Busy\r\n\r\n'), /503 Busy$/, true],
    ['speaks first', await answering('HTTP/1.1 200 OK\r\n\r\nhello'), /before any were asked for/, false],
    ['no HTTP', await answering('SSH-2.0\r\n'), /is not HTTP/, false],
    ['silent', silent, /no connection within 0\.2 s$/, true],
    ['closes', closed, /hang up|ECONNRESET/, true],
    ['nobody there', 'http://127.0.0.1:1', /the proxy http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/, true],
  ];
  for (const [what, proxy, message, retry] of table) {
    const connect = proxy === silent ? 200 : 60_000;
    const env = { https_proxy: proxy.replace('//', '//me:secret@') };
    const source = httpSource(new URL('https://host.example/x?query'), { env, timeouts: { connect } });
    const error = await source.open({ signal }).catch((error) => error);
    t.match(error, { code: 'YAVM_E_HTTP', message, retry }, what);
    t.match(error.message, /^HTTP error: https:\/\/host\.example\/x\?…: /, what);
    t.notMatch(error.message, /secret|query/, what);
  }
});

t.test('an abort ends the wait for a proxy, and its connection', async (t) => {
  let connected: (socket: Socket) => void = () => {};
  const seen = new Promise<Socket>((resolve) => {
    connected = resolve;
  });
  const proxy = await startRawServer(t, connected);
  const abort = new AbortController();
  const opening = httpSource(new URL('https://host.example/'), { env: { https_proxy: proxy } }).open(abort);
  const socket = await seen;
  await once(socket, 'data');
  const closed = once(socket.resume(), 'close');
  abort.abort(new Error('stop'));
  await t.rejects(opening, { message: 'stop' });
  await closed;
});

t.test('with a proxy only addresses in the URL can be refused', async (t) => {
  const proxy = await startProxy(t);
  const policy = { linkLocal: false, private: false };
  const options = { env: { http_proxy: proxy.origin }, policy };
  const open = (url: string) => httpSource(new URL(url), options).open({ signal });
  await t.rejects(open('http://127.0.0.1:1/'), { code: 'YAVM_E_URL_REFUSED' });
  await t.rejects(open('http://169.254.169.254/'), { code: 'YAVM_E_URL_REFUSED' });
  t.equal(proxy.asked.length, 0);
  await t.rejects(open('http://localhost:1/'), { code: 'YAVM_E_HTTP' }, "a name is the proxy's to look up");
  t.equal(proxy.asked.length, 1);
});
