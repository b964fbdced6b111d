import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { LookupFunction } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { trustedContext } from '../../host/transfer/http-certificates.ts';
import { refusal } from '../../host/transfer/http-refusal.ts';
import { get, TIMEOUTS } from '../../host/transfer/http-request.ts';
import { makeCertificate } from '../lib/certificates.ts';
import { type Handler, startRawServer, startServer } from '../lib/http-server.ts';

const HOUR = 3600_000;
/** Every name is that of the loopback. */
const lookup: LookupFunction = (_, { all }, callback) => {
  if (all) callback(null, [{ address: '127.0.0.1', family: 4 }]);
  else callback(null, '127.0.0.1', 4);
};
const settings = { timeouts: TIMEOUTS, signal: new AbortController().signal, env: {}, lookup };

/** The error of a GET, or that of its answer when it is no success. */
async function complaint(
  url: string,
  more: Partial<Parameters<typeof get>[2]> = {},
): Promise<Error & { retry?: boolean }> {
  const answer = await get(new URL(url), {}, { ...settings, ...more }).catch((error) => error);
  if (answer instanceof Error) return answer;
  return await refusal(answer);
}

t.test('what a server says of its refusal is quoted, and does no harm', async (t) => {
  const page = (type: string, text: string, status = 404): Handler => {
    return (_, response) => response.writeHead(status, { 'content-type': type }).end(text);
  };
  const table: [what: string, handler: Handler, ending: string | RegExp][] = [
    ['nothing', (_, response) => response.writeHead(403).end(), '403 Forbidden'],
    ['a reason', (_, response) => response.writeHead(403, 'No Way').end(), '403 No Way'],
    ['text', page('text/plain', '\n\n  no such bucket \nsecond line'), '404 Not Found: "no such bucket"'],
    ['the reason again', page('text/plain', 'Not Found\n'), '404 Not Found'],
    ['the status again', page('text/plain; charset=utf-8', '404 Not Found\n'), '404 Not Found'],
    [
      'nginx',
      page('text/html', '<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>x</body></html>', 403),
      '403 Forbidden',
    ],
    [
      'a page with a style',
      page('text/html', '<style>\nb { }\n</style><script>alert(1)</script><b>gone <i>away</i></b>'),
      '404 Not Found: "gone"',
    ],
    [
      'XML',
      page('application/xml', '<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', 403),
      '403 Forbidden: "AccessDenied"',
    ],
    [
      'JSON',
      page('application/json', '{\n  "error": "quota"\n}', 507),
      '507 Insufficient Storage: ""error": "quota""',
    ],
    ['problem', page('application/problem+json', '{"title":"no"}'), '404 Not Found: "{"title":"no"}"'],
    ['no text', page('application/octet-stream', 'secret bytes'), '404 Not Found'],
    ['no type', (_, response) => response.writeHead(404).end('untyped'), '404 Not Found'],
    [
      'packed',
      (_, response) =>
        response.writeHead(404, { 'content-type': 'text/plain', 'content-encoding': 'gzip' }).end('zzz'),
      '404 Not Found',
    ],
    [
      'control characters',
      page('text/plain', 'a\u001b[31mred\u0007\u202eb\u2028c\u0000d'),
      '404 Not Found: "a [31mred b c d"',
    ],
    [
      'no UTF-8',
      page('text/plain', Buffer.from([0x61, 0xff, 0x62]) as unknown as string),
      '404 Not Found: "a\ufffdb"',
    ],
    ['long', page('text/plain', 'é'.repeat(9000)), `404 Not Found: "${'é'.repeat(200)}…"`],
    [
      'endless',
      (_, response) => void response.writeHead(404, { 'content-type': 'text/plain' }).write('x'.repeat(9000)),
      /404 Not Found: "x{200}…"$/,
    ],
    [
      'the secrets of the URL',
      (request, response) =>
        response
          .writeHead(404, { 'content-type': 'text/plain' })
          .end(`${request.url} ${request.headers.authorization} hunter 22 hunter%2022 pass word`),
      '404 Not Found: "/x?… Basic … … … …"',
    ],
  ];
  for (const [what, handler, ending] of table) {
    const { origin, close } = await startServer(t, handler);
    const url = `${origin.replace('//', '//user:pass%20word@')}/x?token=hunter%2022&a=1`;
    const { message } = await complaint(url);
    const start = `HTTP error: ${origin}/x?…: the server answers `;
    t.ok(message.startsWith(start), what);
    if (typeof ending === 'string') t.equal(message.slice(start.length), ending, what);
    else t.match(message.slice(start.length), ending, what);
    await close();
  }
});

t.test('words that never come are not waited for', async (t) => {
  const { origin } = await startServer(t, (_, response) => {
    response.writeHead(503, { 'content-type': 'text/plain' }).flushHeaders();
  });
  t.match(await complaint(origin), { message: /503 Service Unavailable$/, retry: true });
});

t.test('answers that are none', async (t) => {
  const flood = `HTTP/1.1 200 OK\r\n${'x-y: z\r\n'.repeat(20_000)}\r\n`;
  const table: [what: string, answer: string, message: RegExp, retry: boolean][] = [
    ['another protocol', 'SSH-2.0-OpenSSH\r\n', /the answer is not HTTP: /, false],
    ['too many headers', flood, /the answer is not HTTP: .*overflow/i, false],
    ['a huge header', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`, /not HTTP: .*overflow/i, false],
    ['a huge reason', `HTTP/1.1 404 ${'no '.repeat(5000)}\r\n\r\n`, /404 (no ){60}[no ]{0,30}…$/, false],
    ['an endless reason', `HTTP/1.1 404 ${'no '.repeat(50_000)}\r\n\r\n`, /not HTTP: .*overflow/i, false],
    ['a reason with an escape', 'HTTP/1.1 404 a\u001b[2Jb\r\n\r\n', /404 a \[2Jb$|is not HTTP/, false],
    [
      'two lengths',
      'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n',
      /is not HTTP/,
      false,
    ],
    [
      'a length and chunks',
      'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      /is not HTTP/,
      false,
    ],
    ['a negative length', 'HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n', /is not HTTP/, false],
    [
      'another protocol, in order',
      'HTTP/1.1 101 Ok\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
      /changes the protocol/,
      false,
    ],
    ['nothing', '', /hang up|connection closed/, true],
    ['half a head', 'HTTP/1.1 200 OK\r\ncontent-le', /hang up|not HTTP|closed/, true],
  ];
  for (const [what, answer, message, retry] of table) {
    const origin = await startRawServer(t, (socket) => socket.once('data', () => socket.end(answer)));
    const error = await complaint(`${origin}/x?secret`);
    t.match(error, { code: 'YAVM_E_HTTP', message, retry }, what);
    t.match(error.message, /^HTTP error: http:\/\/127\.0\.0\.1:\d+\/x\?…: /, what);
  }
});

t.test('a server that only ever says that it is busy', async (t) => {
  const origin = await startRawServer(t, (socket) => {
    const timer = setInterval(() => socket.write('HTTP/1.1 102 Processing\r\n\r\n'), 5);
    socket.once('close', () => clearInterval(timer));
  });
  const error = await complaint(origin, { timeouts: { ...TIMEOUTS, headers: 60 } });
  t.match(error, { message: /no answer within 0\.06 s$/, retry: true });
});

t.test('certificates', async (t) => {
  const right = makeCertificate();
  const other = makeCertificate();
  const named = makeCertificate({ names: ['elsewhere.example', '192.0.2.1'] });
  const old = makeCertificate({
    notBefore: new Date(Date.now() - 48 * HOUR),
    notAfter: new Date(Date.now() - HOUR),
  });
  const young = makeCertificate({
    notBefore: new Date(Date.now() + HOUR),
    notAfter: new Date(Date.now() + 48 * HOUR),
  });
  const table: [what: string, served: typeof right, trusted: string | undefined, message: RegExp | null][] = [
    ['right', right, right.cert, null],
    ['self-signed', right, undefined, /self-signed certificate$/],
    ["another authority's", right, other.cert, /self-signed certificate$/],
    ['of another host', named, named.cert, /does not match certificate's altnames/],
    ['expired', old, old.cert, /certificate has expired$/],
    ['not yet valid', young, young.cert, /certificate is not yet valid$/],
  ];
  for (const [what, served, ca, message] of table) {
    const { origin, requests } = await startServer(t, (_, response) => response.writeHead(404).end(), served);
    for (const host of ['127.0.0.1', 'localhost', 'localhost.']) {
      const error = await complaint(`${origin.replace('127.0.0.1', host)}/x?secret`, { ca });
      if (message === null) t.match(error.message, /answers 404/, `${what} ${host}`);
      else {
        const start = `HTTP error: ${origin.replace('127.0.0.1', host)}/x?…: the server's certificate is not accepted: `;
        t.match(error, { code: 'YAVM_E_HTTP', message, retry: false }, `${what} ${host}`);
        t.ok(error.message.startsWith(start), error.message);
      }
    }
    t.equal(
      requests.length,
      message === null ? 3 : 0,
      `${what}: nothing is asked of a server that is not known`,
    );
  }
});

t.test('authorities of the host are trusted beside those of Node', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-authorities-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [one, two] = [makeCertificate(), makeCertificate()];
  const file = join(folder, 'one.pem');
  writeFileSync(
    file,
    `# a comment\r\n${one.cert.replaceAll('\n', '\r\n')}\n-----BEGIN CERTIFICATE-----\nbad\n`,
  );
  const certs = join(folder, 'certs');
  mkdirSync(certs);
  writeFileSync(join(certs, 'two.crt'), two.cert);
  symlinkSync('two.crt', join(certs, '0a1b2c3d.0'));
  symlinkSync('nowhere', join(certs, 'dangling.0'));
  const servers = [
    await startServer(t, (_, response) => response.writeHead(404).end(), one),
    await startServer(t, (_, response) => response.writeHead(404).end(), two),
  ];
  const table: [env: Record<string, string>, trusted: [boolean, boolean]][] = [
    [{}, [false, false]],
    [{ SSL_CERT_FILE: file }, [true, false]],
    [{ SSL_CERT_DIR: `${join(folder, 'none')}:${certs}` }, [false, true]],
    [{ SSL_CERT_FILE: file, SSL_CERT_DIR: certs }, [true, true]],
    [{ SSL_CERT_FILE: join(folder, 'none') }, [false, false]],
  ];
  for (const [env, trusted] of table) {
    const seen = [];
    for (const { origin } of servers)
      seen.push(/answers 404/.test((await complaint(origin, { env })).message));
    t.strictSame(seen, trusted, Object.keys(env).join(' '));
  }
});

t.test('the trusted certificates are read once', async (t) => {
  const env = { SSL_CERT_FILE: '/nonexistent' };
  t.equal(await trustedContext(env), await trustedContext({ ...env }));
});

t.test('TLS where there is none, and the other way round', async (t) => {
  const plain = await startServer(t, (_, response) => response.end());
  const error = await complaint(`${plain.origin.replace('http', 'https')}/x`);
  t.match(error, {
    code: 'YAVM_E_HTTP',
    message: /^HTTP error: https:\S+: TLS fails: [\w ]+$/,
    retry: false,
  });
  const secure = await startServer(t, (_, response) => response.end(), makeCertificate());
  t.match(await complaint(`${secure.origin.replace('https', 'http')}/x`), { code: 'YAVM_E_HTTP' });
});

t.test('credentials go to no other scheme, host or port', async (t) => {
  const tls = makeCertificate();
  const seen: string[] = [];
  const note: Handler = ({ url, headers }, response) => {
    seen.push(`${url} ${headers.authorization ? atob(headers.authorization.slice(6)) : '-'}`);
    const target = decodeURIComponent(url?.split('?to=')[1] ?? '');
    response.writeHead(target ? 307 : 200, target ? { location: target } : {}).end();
  };
  const here = await startServer(t, note, tls);
  const port = await startServer(t, note, tls);
  const scheme = await startServer(t, note);
  const to = (target: string) => `?to=${encodeURIComponent(target)}`;
  const host = here.origin.replace('127.0.0.1', 'localhost');
  const table: [path: string, seen: (string | RegExp)[]][] = [
    [`/a${to('/b')}`, [/^\/a\S+ me:pw$/, '/b me:pw']],
    [`/a${to('b')}`, [/me:pw$/, '/b me:pw']],
    [`/a${to(`${here.origin}/b`)}`, [/me:pw$/, '/b me:pw']],
    [`/a${to(`${port.origin}/b`)}`, [/me:pw$/, '/b -']],
    [`/a${to(`${host}/b`)}`, [/me:pw$/, '/b -']],
    [`/a${to(`${scheme.origin}/b`)}`, [/me:pw$/, '/b -']],
    [`/a${to(`${port.origin.replace('//', '//you:too@')}/b`)}`, [/me:pw$/, '/b you:too']],
    [`/a${to(`${port.origin}/b${to(`${here.origin}/c`)}`)}`, [/me:pw$/, /^\/b\S+ -$/, '/c me:pw']],
  ];
  for (const [path, expected] of table) {
    seen.length = 0;
    const url = new URL(`${here.origin.replace('//', '//me:pw@')}${path}`);
    const { body } = await get(url, {}, { ...settings, ca: tls.cert });
    body.destroy();
    t.match(seen, expected, path);
    t.equal(seen.length, expected.length, path);
  }
});

t.test("an abort in each phase is the signal's reason", async (t) => {
  const silent = await startRawServer(t, () => {});
  for (const origin of [silent, silent.replace('http', 'https')]) {
    const abort = new AbortController();
    const asking = get(new URL(origin), {}, { ...settings, signal: abort.signal });
    abort.abort(new Error('stop'));
    await t.rejects(asking, { message: 'stop' });
  }
  await t.rejects(get(new URL(silent), {}, { ...settings, signal: AbortSignal.abort(new Error('before')) }), {
    message: 'before',
  });
});
