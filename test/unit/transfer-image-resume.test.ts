/** Downloads that are killed, and go on in another process. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type FetchOptions, fetchImage } from '../../host/transfer/image.ts';
import { loadNative } from '../../native/load.ts';
import { type Certificate, makeCertificate } from '../lib/certificates.ts';
import { type Handler, serve, sha3, startServer, taskPackage } from '../lib/http-server.ts';
import { cacheFolder, contentOf, fetchElsewhere, filesIn } from '../lib/image-cache.ts';
import { Random } from '../lib/random.ts';
import { bytes, count } from '../lib/scale.ts';

const MIB = 1024 * 1024;
const ETAG = '"version-1"';
const CONTENT = contentOf(5 * MIB, 1);
const NAME = `alpine_${sha3(CONTENT)}.gvmi`;
const random = new Random();
t.comment(`seed ${random.seed}`);

/** Sends pieces as long as `allowed` says so, and then nothing; counts what it sends. */
class Dosed {
  readonly content: Buffer;
  /** Bytes that may still be sent. */
  budget = 0;
  sent = 0;
  /** Where each request began. */
  starts: number[] = [];
  #onEmpty = () => {};

  constructor(content: Buffer) {
    this.content = content;
  }

  /** Resolves when everything allowed was sent. */
  empty(): Promise<void> {
    return new Promise((resolve) => {
      this.#onEmpty = resolve;
      if (this.budget <= 0) resolve();
    });
  }

  readonly handle = (request: IncomingMessage, response: ServerResponse): void => {
    const [, start, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const from = Number(start ?? 0);
    const until = last ? Number(last) + 1 : this.content.length;
    this.starts.push(from);
    const range = `bytes ${from}-${until - 1}/${this.content.length}`;
    response.writeHead(start === undefined ? 200 : 206, {
      etag: ETAG,
      'content-length': until - from,
      ...(start === undefined ? {} : { 'content-range': range }),
    });
    let at = from;
    const pump = () => {
      while (at < until && this.budget > 0) {
        const piece = this.content.subarray(at, Math.min(at + 65_536, until));
        at += piece.length;
        this.sent += piece.length;
        this.budget -= piece.length;
        if (this.budget <= 0) this.#onEmpty();
        if (!response.write(piece)) return void response.once('drain', pump);
      }
      if (at === until) response.end();
    };
    pump();
  };
}

const LINES = { connections: 4, segment: 2 * MIB, patience: 0 };
const ALONE = { connections: 1, segment: 2 * MIB, patience: 0 };

const ways: [what: string, lines: typeof LINES, tls: Certificate | null][] = [
  ['http', ALONE, null],
  ['http, several connections', LINES, null],
  ['https, several connections', LINES, makeCertificate()],
];
for (const [what, lines, tls] of ways) {
  t.test(`killed at random points and continued: ${what}`, async (t) => {
    const content = contentOf(bytes(1024 * MIB), 2);
    const kills = Math.max(5, count(20));
    const server = new Dosed(content);
    const { origin } = await startServer(t, server.handle, tls ?? undefined);
    const folder = cacheFolder(t);
    const source = { taskPackage: taskPackage(`${origin}/x.gvmi`, content), cacheFolder: folder };
    const options = { ...source, lines, ca: tls?.cert };
    const begins: number[] = [];
    for (let kill = 0; kill < kills; kill++) {
      const before = server.starts.length;
      const budget = random.between(3 * MIB, Math.floor(content.length / kills));
      server.budget = budget;
      const { child, ended, reached } = fetchElsewhere(options);
      await server.empty();
      const begin = server.starts[before] ?? 0;
      begins.push(begin);
      await reached(begin + budget / 2);
      child.kill('SIGKILL');
      t.match(await ended, { code: null }, `kill ${kill}, ${begin} + ${budget} bytes`);
    }
    const before = server.starts.length;
    server.budget = Number.POSITIVE_INFINITY;
    const path = await fetchImage(options);
    begins.push(server.starts[before] ?? 0);
    t.ok(readFileSync(path).equals(content), 'identical');
    t.strictSame(
      begins,
      begins.toSorted((one, other) => one - other),
      'further each time',
    );
    t.ok(new Set(begins).size > kills / 2, `began at ${begins.map((begin) => Math.round(begin / MIB))} MiB`);
    t.equal(filesIn(folder).length, 1, 'nothing else is left');
    const several = server.starts.length > 2 * begins.length;
    t.equal(several, lines === LINES, `${server.starts.length} requests`);
  });
}

t.test('who waits for a downloader that is killed goes on from where it was', async (t) => {
  const server = new Dosed(CONTENT);
  const { origin } = await startServer(t, server.handle);
  const folder = cacheFolder(t);
  const source = { taskPackage: taskPackage(`${origin}/alpine.gvmi`, CONTENT), cacheFolder: folder };
  server.budget = 3 * MIB;
  const first = fetchElsewhere(source);
  await first.reached(2 * MIB);
  const waiting = new Promise<void>((resolve) => {
    void fetchImage({
      ...source,
      progress: ({ message }) => message?.startsWith('Waiting') && resolve(),
    }).then(
      (path) => paths.push(path),
      (error) => t.fail(error),
    );
  });
  const paths: string[] = [];
  const second = fetchElsewhere(source);
  await waiting;
  server.budget = Number.POSITIVE_INFINITY;
  first.child.kill('SIGKILL');
  await first.ended;
  t.strictSame(await second.ended, { code: 0, output: join(folder, NAME) });
  while (paths.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.ok(readFileSync(join(folder, NAME)).equals(CONTENT));
  t.equal(server.starts.length, 2, 'one of the two downloads, the other gets it');
  t.ok((server.starts[1] ?? 0) >= MIB, `from ${server.starts[1]}`);
  t.strictSame(filesIn(folder), [NAME]);
});

interface Left {
  url: string;
  total: number;
  validator: string;
  size: number;
}

/** What a killed process has left: `content` in a part file, and the record. */
function leave(folder: string, content: Uint8Array, record: Partial<Left> | string, name = NAME): string {
  const own = join(folder, '.ya-vm');
  mkdirSync(own, { recursive: true });
  const part = join(own, `${name}.999999-00000000.part`);
  writeFileSync(part, content);
  const all = { total: CONTENT.length, validator: ETAG, size: content.length, ...Object(record) };
  const url = createHash('sha256')
    .update(all.url ?? '')
    .digest('hex');
  writeFileSync(`${part}.json`, typeof record === 'string' ? record : JSON.stringify({ ...all, url }));
  return part;
}

async function setUp(t: Test, handler: Handler) {
  const { origin, requests } = await startServer(t, handler);
  const folder = cacheFolder(t);
  const url = `${origin}/alpine.gvmi`;
  const fetch = (options: Partial<FetchOptions> = {}) =>
    fetchImage({
      taskPackage: taskPackage(url, CONTENT),
      cacheFolder: folder,
      sleep: async () => {},
      ...options,
    });
  const ranges = () => requests.map((request) => request.headers.range);
  return { folder, url, fetch, ranges };
}

const good: Handler = (request, response) => serve(request, response, CONTENT, { etag: ETAG, ranges: true });
const BEGIN = CONTENT.subarray(0, 2 * MIB);
const ASKED = `bytes=${2 * MIB}-`;

t.test('what is left is continued only if it is of the same file', async (t) => {
  const table: [
    what: string,
    content: Uint8Array,
    record: Partial<Left> | string,
    ranges: unknown[],
    handler?: Handler,
  ][] = [
    ['a beginning', BEGIN, {}, [ASKED]],
    ['behind its record there is more', Buffer.concat([BEGIN, Buffer.alloc(99)]), { size: 2 * MIB }, [ASKED]],
    ['everything', CONTENT, {}, []],
    ['nothing', Buffer.alloc(0), {}, [undefined]],
    ['less than its record says', BEGIN, { size: 3 * MIB }, [undefined]],
    ['no record', BEGIN, '', [undefined]],
    ['a record that is none', BEGIN, '[1, 2', [undefined]],
    ['a record with wrong types', BEGIN, { total: '5' as unknown as number }, [undefined]],
    ['more than the whole', BEGIN, { total: 1000 }, [undefined]],
    ['another URL', BEGIN, { url: 'http://elsewhere/alpine.gvmi' }, [undefined]],
    ['another ETag', BEGIN, { validator: '"version-0"' }, [ASKED]],
    ['another date', BEGIN, { validator: 'Tue, 24 Nov 2026 10:00:00 GMT' }, [ASKED]],
    ['another length, under the same ETag', BEGIN, { total: CONTENT.length + 1 }, [ASKED, undefined]],
    [
      'the server has no ranges',
      BEGIN,
      {},
      [ASKED],
      (request, response) => serve(request, response, CONTENT, { etag: ETAG }),
    ],
    ['damaged on the disk', Buffer.concat([Buffer.from('x'), BEGIN.subarray(1)]), {}, [ASKED, undefined]],
  ];
  for (const [what, content, record, expected, handler = good] of table) {
    const { folder, url, fetch, ranges } = await setUp(t, handler);
    leave(folder, content, typeof record === 'string' ? record : { url, ...record });
    t.ok(readFileSync(await fetch()).equals(CONTENT), what);
    t.strictSame(ranges(), expected, what);
    t.strictSame(filesIn(folder), [NAME], what);
    t.strictSame(readdirSync(join(folder, '.ya-vm')), [`${NAME}.json`], what);
  }
});

t.test('a wrong hash of a continued download is fetched once more, and then said', async (t) => {
  const other = contentOf(CONTENT.length, 3);
  const { folder, url, fetch, ranges } = await setUp(t, (request, response) =>
    serve(request, response, other, { etag: ETAG, ranges: true }),
  );
  leave(folder, BEGIN, { url });
  const error = await fetch().catch((error) => error);
  t.match(error, { code: 'YAVM_E_IMAGE_HASH' });
  for (const part of [sha3(other), sha3(CONTENT), url]) t.match(error.message, part);
  t.strictSame(ranges(), [ASKED, undefined]);
  t.strictSame(filesIn(folder), []);
});

t.test('of several parts the largest goes on; others’ are left alone until they are old', async (t) => {
  const { folder, url, fetch, ranges } = await setUp(t, good);
  const own = join(folder, '.ya-vm');
  const small = leave(folder, BEGIN.subarray(0, MIB), { url });
  const [smaller, record] = [readFileSync(small), readFileSync(`${small}.json`)];
  leave(folder, BEGIN, { url });
  writeFileSync(join(own, `${NAME}.1-0.part`), smaller);
  writeFileSync(join(own, `${NAME}.1-0.part.json`), record);
  const young = leave(folder, BEGIN, { url: 'http://h/other' }, `other_${'a'.repeat(56)}`);
  const old = leave(folder, BEGIN, { url: 'http://h/old' }, `old_${'b'.repeat(56)}`);
  writeFileSync(join(own, 'gone_image.json'), '{}');
  utimesSync(old, 0, 0);
  await fetch();
  t.strictSame(ranges(), [ASKED]);
  const left = [`${NAME}.json`, young.slice(own.length + 1), `${young.slice(own.length + 1)}.json`];
  t.strictSame(readdirSync(own).sort(), left.sort());
});

t.test('a part that somebody writes is not touched', async (t) => {
  const { folder, url, fetch, ranges } = await setUp(t, good);
  const part = leave(folder, BEGIN, { url });
  const native = loadNative();
  const fd = native.open(part, 0, 0);
  t.teardown(() => native.close(fd));
  t.ok(native.flock(fd, true));
  await fetch();
  t.strictSame(ranges(), [undefined]);
  t.ok(readFileSync(part).equals(BEGIN));
});

t.test('a server in trouble: what it gave is kept for the next time, if it is worth it', async (t) => {
  let trouble = true;
  let size = 3 * MIB;
  const { folder, fetch, ranges } = await setUp(t, (request, response, index) => {
    if (!trouble) good(request, response, index);
    else if (index === 0) serve(request, response, CONTENT, { etag: ETAG, ranges: true, cutAfter: size });
    else response.writeHead(503).end();
  });
  await t.rejects(fetch(), { code: 'YAVM_E_IMAGE_DOWNLOAD', message: /503/ });
  t.match(filesIn(folder), [/\.part$/]);
  trouble = false;
  t.ok(readFileSync(await fetch()).equals(CONTENT));
  const [first, second = '', ...others] = ranges();
  // What had arrived and was not read yet may be lost with the connection.
  t.match([first, second], [undefined, /^bytes=[123]\d{6}-$/]);
  t.strictSame(others, [second, second]);
  t.strictSame(filesIn(folder), [NAME]);

  size = MIB / 2;
  trouble = true;
  const little = await setUp(t, (request, response, index) =>
    index === 0
      ? serve(request, response, CONTENT, { etag: ETAG, ranges: true, cutAfter: size })
      : response.writeHead(503).end(),
  );
  await t.rejects(little.fetch(), { code: 'YAVM_E_IMAGE_DOWNLOAD' });
  t.strictSame(filesIn(little.folder), []);
});
