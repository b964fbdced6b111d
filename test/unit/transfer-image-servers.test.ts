/** Servers that fail or lie: each a coded error that names URL and cause, and a cache that stays right. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import { type FetchOptions, fetchImage } from '../../host/transfer/image.ts';
import { type Certificate, makeCertificate } from '../lib/certificates.ts';
import { type Handler, serve, sha3, startServer, taskPackage } from '../lib/http-server.ts';
import { cacheFolder, contentOf, filesIn } from '../lib/image-cache.ts';

const MIB = 1024 * 1024;
const CONTENT = contentOf(MIB / 2, 1);
const TIMEOUTS = { connect: 60_000, headers: 60_000, stall: 60_000 };
/** For servers that do not move. */
const IMPATIENT = { ...TIMEOUTS, headers: 300, stall: 300 };

const file: Handler = (request, response) => serve(request, response, CONTENT, { etag: '"1"', ranges: true });

async function setUp(t: Test, origin: string, content = CONTENT) {
  const folder = cacheFolder(t);
  // Another image, which nothing that happens may touch.
  mkdirSync(folder);
  writeFileSync(join(folder, 'other_image'), 'untouched');
  const waits: number[] = [];
  const fetch = (options: Partial<FetchOptions> = {}) =>
    fetchImage({
      taskPackage: taskPackage(`${origin}/alpine.gvmi?secret=1`, content),
      cacheFolder: folder,
      timeouts: TIMEOUTS,
      sleep: async (milliseconds) => void waits.push(milliseconds),
      ...options,
    });
  return { folder, waits, fetch };
}

interface Case {
  what: string;
  handler: Handler;
  /** Null: the image is there in the end. */
  message: RegExp | null;
  code?: string | RegExp;
  /** Attempts after the first. */
  retries: number;
  timeouts?: typeof TIMEOUTS;
}

const status = (code: number, body = 'sorry'): Handler => {
  return (_, response) => response.writeHead(code, { 'content-type': 'text/plain' }).end(body);
};
/** The first answer, and all the others. */
const first = (one: Handler, others: Handler): Handler => {
  return (request, response, index) => (index === 0 ? one : others)(request, response, index);
};

const EARLY = /the connection ended before the body did|only \d+ of \d+ bytes/;

/** `content` is right, `other` as long. */
function casesFor(content: Buffer, other: Buffer): Case[] {
  const half = content.length / 2;
  const file: Handler = (request, response) =>
    serve(request, response, content, { etag: '"1"', ranges: true });
  const misbehaving = (options: object, sent = content): Handler => {
    return (request, response) => serve(request, response, sent, { etag: '"1"', ...options });
  };
  return [
    {
      what: '404',
      handler: status(404, 'no such image'),
      message: /404 Not Found.*no such image/,
      retries: 0,
    },
    { what: '403', handler: status(403, 'go away'), message: /403 Forbidden.*go away/, retries: 0 },
    { what: '500', handler: status(500, 'we are broken'), message: /500.*we are broken/, retries: 2 },
    { what: '503', handler: status(503), message: /503 Service Unavailable/, retries: 2 },
    { what: '503, and then well', handler: first(status(503), file), message: null, retries: 1 },
    {
      what: 'more announced than there is',
      handler: misbehaving({ length: content.length + 1, cutAfter: content.length }),
      message: EARLY,
      retries: 2,
    },
    {
      what: 'half of the file',
      handler: misbehaving({ length: half }, content.subarray(0, half)),
      code: 'YAVM_E_IMAGE_HASH',
      message: /differs from the expected one/,
      retries: 0,
    },
    {
      what: 'closes early, each time',
      handler: misbehaving({ cutAfter: half }),
      message: EARLY,
      retries: 2,
    },
    {
      what: 'closes early, and goes on',
      handler: first(misbehaving({ cutAfter: half }), file),
      message: null,
      retries: 1,
    },
    {
      what: 'closes early without having said how much there is',
      handler: misbehaving({ length: null, cutAfter: half }),
      message: EARLY,
      retries: 2,
    },
    {
      what: 'stalls',
      handler: misbehaving({ stallAfter: half }),
      message: /stalls: less than 16 KiB/,
      retries: 2,
      timeouts: IMPATIENT,
    },
    {
      what: 'never answers',
      handler: () => {},
      message: /no answer within 0.3 s/,
      retries: 2,
      timeouts: IMPATIENT,
    },
    {
      what: 'changes the file half-way, to another one',
      handler: first(misbehaving({ cutAfter: half }), misbehaving({ etag: '"2"', ranges: true }, other)),
      code: 'YAVM_E_IMAGE_HASH',
      message: /differs from the expected one/,
      retries: 1,
    },
    {
      what: 'changes the file half-way, to the right one',
      handler: first(misbehaving({ cutAfter: half }, other), misbehaving({ etag: '"2"', ranges: true })),
      message: null,
      retries: 1,
    },
    {
      what: 'changes the file half-way, under the same ETag',
      handler: first(misbehaving({ cutAfter: half }, other), misbehaving({ ranges: true })),
      message: null,
      retries: 1,
    },
    {
      what: 'sends the whole file when it is asked for the rest',
      handler: first(misbehaving({ cutAfter: half }), misbehaving({})),
      message: null,
      retries: 1,
    },
    {
      what: 'sends a part when it is asked for all',
      handler: (_, response) => {
        response
          .writeHead(206, { 'content-range': `bytes 0-9/${content.length}` })
          .end(content.subarray(0, 10));
      },
      message: /answers 206/,
      retries: 0,
    },
    {
      what: 'another file',
      handler: misbehaving({}, other),
      code: 'YAVM_E_IMAGE_HASH',
      message: /alpine\.gvmi\?…/,
      retries: 0,
    },
    {
      what: 'a redirect in circles',
      handler: (request, response) => response.writeHead(302, { location: request.url }).end(),
      message: /more than 10 redirects/,
      retries: 0,
    },
    {
      what: 'a redirect away from HTTP',
      handler: (_, response) => response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
      message: /redirect to file:/,
      retries: 0,
    },
    {
      what: 'no HTTP',
      handler: (request) => request.socket.end('220 ready\r\n'),
      message: /Parse Error/,
      retries: 0,
    },
  ];
}

/** A large body is not read as a small one is (http-tap.ts). */
const ways: [way: string, size: number, tls: Certificate | undefined][] = [
  ['a small file', MIB / 2, undefined],
  ['a large file', 6 * MIB, undefined],
  ['a large file, https', 6 * MIB, makeCertificate()],
];
const all = ways.flatMap(([way, size, tls]) => {
  const content = contentOf(size, 1);
  const name = `alpine_${sha3(content)}.gvmi`;
  return casesFor(content, contentOf(size, 2)).map((one) => ({ ...one, way, content, name, tls }));
});
for (const one of all) {
  const { what, way, handler, message, code = 'YAVM_E_IMAGE_DOWNLOAD', retries, content, name, tls } = one;
  const { timeouts = TIMEOUTS } = one;
  t.test(`a server: ${what}: ${way}`, async (t) => {
    const { origin } = await startServer(t, handler, tls);
    const { folder, waits, fetch } = await setUp(t, origin, content);
    const result = await fetch({ ca: tls?.cert, timeouts }).catch((error) => error);
    if (message === null) {
      t.equal(result, join(folder, name));
      t.ok(readFileSync(result).equals(content));
    } else {
      t.match(result, { code, message });
      t.match(result.message, `${origin}/alpine.gvmi`, 'names the URL');
      t.notMatch(result.message, /secret/);
    }
    t.strictSame(waits, [2000, 4000].slice(0, retries), `${retries} retries`);
    // Of a server in trouble, enough to be continued later.
    const kept = message !== null && retries > 0 && content.length > MIB;
    const files = filesIn(folder).filter((file) => !kept || !file.endsWith('.part'));
    t.strictSame(files, [...(message === null ? [name] : []), 'other_image'].sort());
    t.equal(readFileSync(join(folder, 'other_image'), 'utf8'), 'untouched');
  });
}

t.test('wrong certificates and what is no TLS', async (t) => {
  const right = makeCertificate();
  const table: [
    what: string,
    certificate: ReturnType<typeof makeCertificate>,
    ca: string | undefined,
    message: RegExp,
  ][] = [
    ['nobody knows', right, undefined, /self-signed/],
    ['another’s', makeCertificate(), right.cert, /self-signed|unable to verify|signature/],
    [
      'another name’s',
      makeCertificate({ names: ['elsewhere.example'] }),
      '',
      /not in the cert|altnames|does not match/i,
    ],
    ['expired', makeCertificate({ notBefore: new Date(0), notAfter: new Date(1e11) }), '', /expired/],
  ];
  for (const [what, certificate, ca, message] of table) {
    const { origin } = await startServer(t, file, certificate);
    const { folder, waits, fetch } = await setUp(t, origin);
    const error = await fetch({ ca: ca === '' ? certificate.cert : ca }).catch((error) => error);
    t.match(error, { code: 'YAVM_E_IMAGE_DOWNLOAD', message }, what);
    t.match(error.message, `${origin}/alpine.gvmi`);
    t.strictSame(waits, [], 'not tried again');
    t.strictSame(filesIn(folder), ['other_image']);
  }
  const plain = await startServer(t, file);
  const { fetch } = await setUp(t, plain.origin.replace('http:', 'https:'));
  await t.rejects(fetch(), { code: 'YAVM_E_IMAGE_DOWNLOAD', message: /SSL|TLS|wrong version/i }, 'no TLS');
});

t.test('nobody there, and a connection that closes at once', async (t) => {
  const gone = await startServer(t, file);
  await gone.close();
  const refused = await setUp(t, gone.origin);
  const error = await refused.fetch().catch((error) => error);
  t.match(error, { code: 'YAVM_E_IMAGE_DOWNLOAD', message: /ECONNREFUSED/ });
  t.match(error.message, gone.origin);
  t.equal(refused.waits.length, 2);

  const server = createTcpServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const address = server.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const closing = await setUp(t, `http://127.0.0.1:${port}`);
  const reset = await closing.fetch().catch((error) => error);
  t.ok(isYavmError(reset, 'YAVM_E_IMAGE_DOWNLOAD'), reset.message);
  t.strictSame(filesIn(closing.folder), ['other_image']);
});
