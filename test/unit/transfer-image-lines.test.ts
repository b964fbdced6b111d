/** An image fetched on several connections, from servers that like that and from others. */
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import t, { type Test } from 'tap';
import { fetchImage } from '../../host/transfer/image.ts';
import { type Handler, serve, startServer, taskPackage } from '../lib/http-server.ts';
import { cacheFolder, contentOf, filesIn } from '../lib/image-cache.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const MIB = 1024 * 1024;
const ETAG = '"version-1"';
const CONTENT = contentOf(24 * MIB, 1);
const OTHER = contentOf(24 * MIB, 2);
/** Bytes a millisecond. */
const STEP = 256 * 1024;
const LINES = { connections: 4, segment: MIB, patience: 0 };

async function setUp(t: Test, handler: Handler) {
  const { origin, requests } = await startServer(t, handler);
  const folder = cacheFolder(t);
  const waits: number[] = [];
  const fetch = (lines = LINES, signal?: AbortSignal, stall = 60_000) =>
    fetchImage({
      taskPackage: taskPackage(`${origin}/x.gvmi`, CONTENT),
      cacheFolder: folder,
      lines,
      signal,
      timeouts: { connect: 60_000, headers: 60_000, stall },
      sleep: async (milliseconds) => void waits.push(milliseconds),
    });
  const bounded = () => requests.filter(({ headers }) => /^bytes=\d+-\d+$/.test(headers.range ?? ''));
  return { requests, folder, waits, fetch, bounded };
}

const asked = (request: IncomingMessage) => request.headers.range !== undefined;
const good: Handler = (request, response) => serve(request, response, CONTENT, { etag: ETAG, ranges: true });
/** The whole file, slowly: others come first. */
const slow = (response: ServerResponse, content = CONTENT) => {
  response.writeHead(200, { etag: ETAG, 'content-length': content.length });
  let at = 0;
  const timer = setInterval(() => {
    if (at >= content.length || response.destroyed) return clearInterval(timer);
    response.write(content.subarray(at, at + STEP));
    at += STEP;
  }, 1);
};

t.test('a server that serves ranges is asked by several connections', async (t) => {
  const { fetch, bounded, folder, waits } = await setUp(t, (request, response, index) =>
    index === 0 ? slow(response) : good(request, response, index),
  );
  t.ok(readFileSync(await fetch()).equals(CONTENT));
  t.ok(bounded().length >= 3, `${bounded().length} ranges`);
  t.strictSame(waits, []);
  t.equal(filesIn(folder).length, 1);
});

t.test('one connection: for small files, without a strong validator, where ranges are refused', async (t) => {
  const table: [what: string, handler: Handler, lines?: typeof LINES][] = [
    ['one is all that may be', good, { ...LINES, connections: 1 }],
    ['a small file', good, { ...LINES, segment: 13 * MIB }],
    ['a fast first connection', good, { ...LINES, patience: 60_000 }],
    [
      'a weak ETag',
      (request, response) => serve(request, response, CONTENT, { etag: 'W/"1"', ranges: true }),
    ],
    ['no validator', (request, response) => serve(request, response, CONTENT, { ranges: true })],
    ['no length', (request, response) => serve(request, response, CONTENT, { etag: ETAG, length: null })],
    [
      'Accept-Ranges: none',
      (request, response) => {
        response.setHeader('accept-ranges', 'none');
        serve(request, response, CONTENT, { etag: ETAG });
      },
    ],
  ];
  for (const [what, handler, lines] of table) {
    const { fetch, requests } = await setUp(t, handler);
    t.ok(readFileSync(await fetch(lines)).equals(CONTENT), what);
    t.equal(requests.length, 1, what);
  }
});

t.test('a server that answers ranges with something else is fetched from on one connection', async (t) => {
  const answer = (headers: Record<string, string>, content = CONTENT): Handler => {
    return (request, response) => {
      const [, from, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
      const range = `bytes ${from}-${last}/${CONTENT.length}`;
      response.writeHead(206, { etag: ETAG, 'content-range': range, ...headers });
      response.end(content.subarray(Number(from), Number(last) + 1));
    };
  };
  const table: [what: string, handler: Handler][] = [
    ['the whole file', (request, response) => serve(request, response, CONTENT, { etag: ETAG })],
    ['another file', (request, response) => serve(request, response, OTHER, { etag: '"2"' })],
    ['another ETag', answer({ etag: '"2"' }, OTHER)],
    ['another total', answer({ 'content-range': `bytes 0-9/${CONTENT.length + 1}` }, OTHER)],
    ['another range', answer({ 'content-range': `bytes 0-9/${CONTENT.length}` }, OTHER)],
    ['packed', answer({ 'content-encoding': 'gzip' }, OTHER)],
    ['not satisfiable', (_, response) => response.writeHead(416).end()],
    ['too many connections', (_, response) => response.writeHead(429).end()],
    ['an error', (_, response) => response.writeHead(500).end('sorry')],
    ['a reset', (_, response) => response.socket?.resetAndDestroy()],
    ['nothing', () => {}],
  ];
  for (const [what, handler] of table) {
    const { fetch, requests, waits, folder } = await setUp(t, (request, response, index) => {
      if (asked(request)) handler(request, response, index);
      else slow(response);
    });
    t.ok(readFileSync(await fetch()).equals(CONTENT), what);
    t.equal(requests.length, 2, `${what}: asked once`);
    t.strictSame(waits, [], what);
    t.equal(filesIn(folder).length, 1);
  }
});

t.test('ranges that lie about their content: once more, in one piece', async (t) => {
  const { fetch, requests } = await setUp(t, (request, response, index) => {
    if (index === 0) slow(response);
    else serve(request, response, asked(request) ? OTHER : CONTENT, { etag: ETAG, ranges: true });
  });
  t.ok(readFileSync(await fetch()).equals(CONTENT));
  t.equal(requests.at(-1)?.headers.range, undefined);
});

t.test('a signal ends all connections, and nothing is left', async (t) => {
  const abort = new AbortController();
  const reason = new Error('the activity ends');
  let open = 0;
  let left = () => {};
  const over = new Promise<void>((resolve) => {
    left = resolve;
  });
  const { fetch, folder } = await setUp(t, (request, response) => {
    open++;
    response.once('close', () => --open === 0 && left());
    if (open === LINES.connections) abort.abort(reason);
    serve(request, response, CONTENT, { etag: ETAG, ranges: true, stallAfter: MIB / 2 });
  });
  await t.rejects(fetch(LINES, abort.signal), reason);
  await over;
  t.strictSame(filesIn(folder), []);
});

t.test('connections that break off or stall, at random', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  for (let round = count(40); round > 0; round--) {
    const { fetch, requests, folder } = await setUp(t, (request, response, index) => {
      const bad = random.between(0, 3 * MIB);
      const options = { etag: ETAG, ranges: true };
      const ends = random.pick(['well', 'badly', 'cutAfter', 'resetAfter', 'stallAfter']);
      if (ends === 'well' || index > 30) serve(request, response, CONTENT, options);
      else if (ends === 'badly') response.writeHead(random.pick([429, 500, 503])).end();
      else serve(request, response, CONTENT, { ...options, [ends]: bad });
    });
    let result: string | Error = new Error('not tried');
    // Three attempts each; what they got goes on.
    for (let attempt = 0; attempt < 30 && typeof result !== 'string'; attempt++) {
      result = await fetch(LINES, undefined, 300).catch((error) => error);
    }
    if (typeof result !== 'string') return t.fail(`round ${round}: ${result}`);
    t.ok(readFileSync(result).equals(CONTENT), `round ${round}: ${requests.length} requests`);
    t.equal(filesIn(folder).length, 1);
  }
});
