import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { YavmError } from '../../host/lib/errors.ts';
import { type FetchOptions, fetchImage } from '../../host/transfer/image.ts';
import type { ProgressReport } from '../../host/transfer/types.ts';
import { NODE, publisherOf } from '../lib/gftp.ts';
import { type Handler, serve, sha3, startServer, taskPackage } from '../lib/http-server.ts';
import { cacheFolder, fetchElsewhere, filesIn } from '../lib/image-cache.ts';
import { withMounts } from '../lib/namespaces.ts';
import { Random } from '../lib/random.ts';
import type { FakeBus } from '../lib/supervisor-bus.ts';

const CONTENT = new Random(7).bytes(300_000);
const ETAG = '"version-1"';

interface Setup {
  folder: string;
  reports: ProgressReport[];
  waits: number[];
  fetch(options?: Partial<FetchOptions>): Promise<string>;
  requests: { url?: string; headers: Record<string, unknown> }[];
  origin: string;
}

/** A server that answers by `handler`, and a fetch of `CONTENT` from it, without real waits between attempts. */
async function setUp(t: Test, handler: Handler): Promise<Setup> {
  const { origin, requests } = await startServer(t, handler);
  const folder = cacheFolder(t);
  const reports: ProgressReport[] = [];
  const waits: number[] = [];
  const fetch = (options: Partial<FetchOptions> = {}) =>
    fetchImage({
      taskPackage: taskPackage(`${origin}/alpine.gvmi`, CONTENT),
      cacheFolder: folder,
      progress: (report) => reports.push(report),
      sleep: async (milliseconds) => void waits.push(milliseconds),
      timeouts: { connect: 60_000, headers: 60_000, stall: 60_000 },
      ...options,
    });
  return { folder, reports, waits, fetch, requests, origin };
}

const NAME = `alpine_${sha3(CONTENT)}.gvmi`;

t.test('an image is downloaded, checked, and then taken from the cache', async (t) => {
  const { folder, reports, fetch, requests } = await setUp(t, (request, response) =>
    serve(request, response, CONTENT),
  );
  const path = await fetch();
  t.equal(path, join(folder, NAME));
  t.ok(readFileSync(path).equals(CONTENT));
  t.strictSame(filesIn(folder), [NAME]);
  t.strictSame(reports.at(-1), { done: CONTENT.length, total: CONTENT.length, unit: 'Bytes' });
  t.match(requests[0]?.headers, { 'accept-encoding': 'identity', authorization: undefined });
  reports.length = 0;
  t.equal(await fetch(), path);
  t.equal(requests.length, 1);
  t.match(reports, [{ message: 'Deployed image from cache', done: 0, total: null }]);
});

t.test(
  'all lengths of digest; an upper-case one; a server without Content-Length; an empty image',
  async (t) => {
    const { fetch, origin } = await setUp(t, (request, response) =>
      serve(request, response, request.url?.startsWith('/empty') ? Buffer.alloc(0) : CONTENT, {
        length: null,
      }),
    );
    for (const bits of [224, 256, 384, 512] as const) {
      const path = await fetch({ taskPackage: taskPackage(`${origin}/x.gvmi`, CONTENT, bits) });
      t.ok(readFileSync(path).equals(CONTENT), `${bits}`);
    }
    const upper = `hash:sha3:0x${sha3(CONTENT).toUpperCase()}:${origin}/u`;
    t.match(await fetch({ taskPackage: upper }), /\/u_[0-9a-f]{56}$/);
    const empty = await fetch({ taskPackage: taskPackage(`${origin}/empty`, Buffer.alloc(0)) });
    t.equal(readFileSync(empty).length, 0);
  },
);

t.test('a wrong hash is an error with upstream’s text, not tried again, and leaves nothing', async (t) => {
  const { folder, fetch, requests, waits } = await setUp(t, (request, response) =>
    serve(request, response, CONTENT.subarray(1), { etag: ETAG }),
  );
  await t.rejects(fetch(), {
    code: 'YAVM_E_IMAGE_HASH',
    message:
      'Incorrect hash provided or downloaded image is corrupted: ' +
      `calculated hash ${sha3(CONTENT.subarray(1))} differs from the expected one ${sha3(CONTENT)}`,
  });
  t.strictSame(filesIn(folder), []);
  t.strictSame([requests.length, waits.length], [1, 0]);
});

t.test('what a requestor may not name', async (t) => {
  const options = { cacheFolder: cacheFolder(t) };
  const hash = `hash:sha3:${sha3(CONTENT)}`;
  const table: [taskPackage: string, code: string, message: RegExp][] = [
    ['http://127.0.0.1/x.gvmi', 'YAVM_E_URL', /^Invalid url: Missing hash$/],
    ['', 'YAVM_E_URL', /^Invalid url: Empty URL$/],
    [`${hash}:gftp://0x${'1'.repeat(40)}/abc`, 'YAVM_E_UNSUPPORTED', /^gftp:.*\/abc: no bus here/],
    [`gftp://0x${'1'.repeat(40)}/abc`, 'YAVM_E_URL', /^Invalid url: Missing hash$/],
    [`${hash}:ftp://host/x`, 'YAVM_E_UNSUPPORTED', /^Unsupported scheme: ftp$/],
    [`${hash}:file:///etc/passwd`, 'YAVM_E_UNSUPPORTED', /^Unsupported scheme: file$/],
    [`${hash}:/etc/passwd`, 'YAVM_E_UNSUPPORTED', /^Unsupported scheme: file$/],
    ['/etc/passwd', 'YAVM_E_UNSUPPORTED', /^Unsupported scheme: file$/],
    [`${hash}:container:/x`, 'YAVM_E_UNSUPPORTED', /^Unsupported scheme: container$/],
  ];
  for (const [taskPackage, code, message] of table)
    await t.rejects(fetchImage({ ...options, taskPackage }), { code, message }, taskPackage.slice(-20));
});

t.test('an image over gftp', async (t) => {
  const url = `gftp://${NODE}/abc`;
  const reports: ProgressReport[] = [];
  const options = (bus: FakeBus, content: Uint8Array = CONTENT) => ({
    taskPackage: taskPackage(url, content),
    cacheFolder: cacheFolder(t),
    progress: (report: ProgressReport) => reports.push(report),
    sleep: async () => {},
    bus,
  });
  const good = options(publisherOf(CONTENT));
  const path = await fetchImage(good);
  t.equal(path, join(good.cacheFolder, `abc_${sha3(CONTENT)}`));
  t.ok(readFileSync(path).equals(CONTENT));
  t.strictSame(reports.at(-1), { done: CONTENT.length, total: CONTENT.length, unit: 'Bytes' });
  const idle = publisherOf(CONTENT);
  t.equal(await fetchImage({ ...good, bus: idle }), path);
  t.equal(idle.calls.length, 0, 'from the cache');

  let failures = 2;
  const passing = publisherOf(CONTENT, (message) => {
    if (message === 'GetChunk' && failures-- > 0) throw new YavmError('YAVM_E_GSB_TIMEOUT', 'no answer');
    return undefined;
  });
  t.ok(readFileSync(await fetchImage(options(passing))).equals(CONTENT), 'begun anew');

  const table: [what: string, bus: FakeBus, code: string, message: RegExp][] = [
    ['another file', publisherOf(CONTENT.subarray(1)), 'YAVM_E_IMAGE_HASH', /calculated hash/],
    [
      'nobody there',
      publisherOf(CONTENT, () => {
        throw new YavmError('YAVM_E_GSB_CLOSED', 'the bus is gone');
      }),
      'YAVM_E_IMAGE_DOWNLOAD',
      /the bus is gone/,
    ],
    [
      'more than may be taken',
      publisherOf(CONTENT, (message) => (message === 'GetMetadata' ? { fileSize: 2 ** 50 } : undefined)),
      'YAVM_E_IMAGE_DOWNLOAD',
      /large/,
    ],
  ];
  for (const [what, bus, code, message] of table) {
    const bad = options(bus);
    const error = await fetchImage(bad).catch((error) => error);
    t.match(error, { code, message }, what);
    t.match(error.message, url);
    t.strictSame(filesIn(bad.cacheFolder), [], what);
  }
});

t.test('files of this host, when that is allowed', async (t) => {
  const folder = cacheFolder(t);
  mkdirSync(folder);
  const file = join(folder, 'a b%.gvmi');
  writeFileSync(file, CONTENT);
  const fetch = (taskPackage: string) => fetchImage({ taskPackage, cacheFolder: folder, allowFile: true });
  t.equal(await fetch(pathToFileURL(file).href), file);
  t.equal(await fetch(`hash:sha3:${sha3(CONTENT)}:${pathToFileURL(file).href}`), file);
  await t.rejects(fetch(`hash:sha3:${'0'.repeat(56)}:${pathToFileURL(file).href}`), {
    code: 'YAVM_E_IMAGE_HASH',
  });
  await t.rejects(fetch(join(folder, 'none')), { code: 'YAVM_E_IMAGE_UNREADABLE' });
  await t.rejects(fetch(folder), { code: 'YAVM_E_IMAGE_UNREADABLE', message: /not a regular file/ });
  await t.rejects(fetch('file://elsewhere/x'), { code: 'YAVM_E_URL' });
});

t.test('a cached image that nobody has checked is hashed, and replaced when it is damaged', async (t) => {
  const { folder, reports, fetch, requests } = await setUp(t, (request, response) =>
    serve(request, response, CONTENT),
  );
  mkdirSync(folder);
  writeFileSync(join(folder, NAME), CONTENT);
  await fetch();
  t.equal(requests.length, 0, 'put there by an upstream exe-unit');
  t.match(reports.at(-1), { message: 'Deployed image from cache' });

  writeFileSync(join(folder, NAME), CONTENT.subarray(1000));
  await fetch();
  t.equal(requests.length, 1, 'truncated');
  const damaged = Uint8Array.from(CONTENT);
  damaged[5] = 255 - (damaged[5] as number);
  writeFileSync(join(folder, NAME), damaged);
  await fetch();
  t.equal(requests.length, 2, 'a flipped byte');
  t.ok(readFileSync(join(folder, NAME)).equals(CONTENT));
  writeFileSync(join(folder, '.ya-vm', `${NAME}.json`), 'x'.repeat(10_000));
  await fetch();
  t.equal(requests.length, 2, 'a damaged record costs one hash');
});

t.test('what stands in the image’s place, or in the cache’s', async (t) => {
  const { folder, fetch } = await setUp(t, (request, response) => serve(request, response, CONTENT));
  mkdirSync(join(folder, NAME), { recursive: true });
  await t.rejects(fetch(), { code: 'YAVM_E_IMAGE_CACHE', message: /not a regular file/ });
  writeFileSync(join(folder, 'file'), '');
  await t.rejects(fetch({ cacheFolder: join(folder, 'file') }), { code: 'YAVM_E_IMAGE_CACHE' });
});

t.test('more than may be taken, or than there is room for, is refused before it is downloaded', async (t) => {
  const { folder, fetch, waits } = await setUp(t, (request, response, index) => {
    if (index === 0) serve(request, response, CONTENT);
    else if (index === 1) serve(request, response, CONTENT, { length: null });
    else serve(request, response, CONTENT, { length: 2 ** 52, stallAfter: 10 });
  });
  const most = { maxSize: CONTENT.length - 1 };
  await t.rejects(fetch(most), { code: 'YAVM_E_IMAGE_DOWNLOAD', message: /larger than 293 KiB/ });
  await t.rejects(
    fetch(most),
    { code: 'YAVM_E_IMAGE_DOWNLOAD', message: /larger than 293 KiB/ },
    'unannounced',
  );
  await t.rejects(fetch({ maxSize: 2 ** 53 }), { code: 'YAVM_E_IMAGE_DOWNLOAD', message: /no room/ });
  t.strictSame(filesIn(folder), []);
  t.strictSame(waits, []);
});

t.test('a signal ends a download at any time, and nothing is left', async (t) => {
  const { folder, fetch } = await setUp(t, (request, response) =>
    serve(request, response, CONTENT, { stallAfter: request.url === '/headers' ? 0 : 100_000 }),
  );
  const reason = new Error('the activity ends');
  const abort = new AbortController();
  const running = fetch({
    signal: abort.signal,
    progress: (report) => report.done > 0 && abort.abort(reason),
  });
  await t.rejects(running, reason);
  await t.rejects(fetch({ signal: AbortSignal.abort(reason) }), reason, 'before it began');
  t.strictSame(filesIn(folder), []);
});

t.test('a signal ends the wait for another attempt', async (t) => {
  const { folder, fetch } = await setUp(t, (_, response) => void response.writeHead(503).end());
  const abort = new AbortController();
  const reason = new Error('the activity ends');
  const progress = ({ message }: ProgressReport) => message?.startsWith('Retry') && abort.abort(reason);
  await t.rejects(fetch({ signal: abort.signal, sleep: undefined, progress }), reason);
  t.strictSame(filesIn(folder), []);
});

t.test('two fetches of one image in a process download it once', async (t) => {
  const { folder, fetch, requests, reports } = await setUp(t, (request, response) =>
    serve(request, response, CONTENT),
  );
  const paths = await Promise.all([fetch({ sleep: undefined }), fetch({ sleep: undefined })]);
  t.strictSame(paths, [join(folder, NAME), join(folder, NAME)]);
  t.equal(requests.length, 1);
  t.match(reports.filter((report) => report.message).at(-1), { message: 'Deployed image from cache' });
  t.strictSame(filesIn(folder), [NAME]);
});

t.test('two processes that want one image download it once', async (t) => {
  const held: (() => void)[] = [];
  const { folder, origin, requests, fetch } = await setUp(t, (request, response) => {
    response.setHeader('content-length', CONTENT.length);
    response.write(CONTENT.subarray(0, 1000));
    held.push(() => serve(request, response, CONTENT.subarray(1000), { length: null }));
    if (held.length === 1) onFirst();
  });
  let onFirst = () => {};
  const first = new Promise<void>((resolve) => {
    onFirst = resolve;
  });
  const other = fetchElsewhere({
    taskPackage: taskPackage(`${origin}/alpine.gvmi`, CONTENT),
    cacheFolder: folder,
  });
  await first;
  // We come second, wait, and see what the other has got so far.
  const seen: ProgressReport[] = [];
  const ours = fetch({
    sleep: undefined,
    progress: (report) => {
      seen.push(report);
      for (const finish of held.splice(0)) finish();
    },
  });
  t.equal(await ours, join(folder, NAME));
  t.strictSame(await other.ended, { code: 0, output: join(folder, NAME) });
  t.equal(requests.length, 1);
  t.match(seen[0], { message: /^Waiting/ });
  t.strictSame(filesIn(folder), [NAME]);
});

t.test('a process that is killed leaves a part, which the next one removes', async (t) => {
  let started = () => {};
  const begun = new Promise<void>((resolve) => {
    started = resolve;
  });
  const { folder, origin, fetch } = await setUp(t, (request, response, index) => {
    serve(request, response, CONTENT, index === 0 ? { stallAfter: 1000 } : {});
    if (index === 0) started();
  });
  const { child, ended } = fetchElsewhere({
    taskPackage: taskPackage(`${origin}/alpine.gvmi`, CONTENT),
    cacheFolder: folder,
  });
  await begun;
  child.kill('SIGKILL');
  await ended;
  t.match(filesIn(folder), [/\.part$/, /\.lock$/], 'as a power cut leaves it');
  await fetch();
  t.strictSame(filesIn(folder), [NAME]);
});

t.test('who holds the lock and does not get on is not waited for', async (t) => {
  const { folder, fetch, requests } = await setUp(t, (request, response, index) =>
    index === 0 ? serve(request, response, CONTENT, { stallAfter: 1000 }) : serve(request, response, CONTENT),
  );
  const abort = new AbortController();
  const hanging = fetch({ signal: abort.signal }).catch((error) => error);
  while (requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal(await fetch({ patience: 0 }), join(folder, NAME));
  t.equal(requests.length, 2);
  abort.abort(new Error('enough'));
  t.match(await hanging, { message: 'enough' });
  t.strictSame(filesIn(folder), [NAME]);
});

const skip = process.getuid?.() === 0 ? false : 'needs root, for a small file system';
t.test('a full disk is said, and nothing is left on it', { skip }, async (t) => {
  const { folder, origin, requests } = await setUp(t, (request, response) =>
    serve(request, response, CONTENT, { length: null }),
  );
  mkdirSync(folder);
  const mount = `mount -t tmpfs -o size=128k none ${folder} && exec "$@"`;
  const within = withMounts(mount);
  const { ended } = fetchElsewhere(
    { taskPackage: taskPackage(`${origin}/alpine.gvmi`, CONTENT), cacheFolder: folder },
    within,
  );
  const message = `${folder}: the disk is full, no room for ${origin}/alpine.gvmi`;
  t.strictSame(await ended, { code: 0, output: `YAVM_E_IMAGE_DOWNLOAD ${message} ` }, 'and no file is left');
  t.equal(requests.length, 1, 'not tried again');
});

t.test('a cache that can only be read serves what it has', { skip }, async (t) => {
  const { folder, origin, requests } = await setUp(t, (request, response) =>
    serve(request, response, CONTENT),
  );
  mkdirSync(folder);
  writeFileSync(join(folder, NAME), CONTENT);
  const mount = `mount --bind ${folder} ${folder} && mount -o remount,bind,ro ${folder} && exec "$@"`;
  const within = withMounts(mount);
  const { ended } = fetchElsewhere(
    { taskPackage: taskPackage(`${origin}/alpine.gvmi`, CONTENT), cacheFolder: folder },
    within,
  );
  t.strictSame(await ended, { code: 0, output: join(folder, NAME) });
  t.equal(requests.length, 0);
});
