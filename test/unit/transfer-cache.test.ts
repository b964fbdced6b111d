/** The cache's bound: what is evicted, in which order, and what never is. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { cacheLimit } from '../../host/transfer/cache-limit.ts';
import { type FetchOptions, fetchImage, leaseImage } from '../../host/transfer/image.ts';
import { serve, sha3, startServer, taskPackage } from '../lib/http-server.ts';
import { cacheFolder, contentOf, fetchElsewhere, leaseElsewhere } from '../lib/image-cache.ts';
import { withMounts } from '../lib/namespaces.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';

const SIZE = 256 * 1024;
/** Two images and a bit: records and locks are small. */
const LIMIT = 2.5 * SIZE;

/** A server that has an image for each letter, and a cache. */
async function setUp(t: Test, length: number | null | undefined = undefined) {
  const contents = new Map([...'abcdefgh'].map((name, index) => [name, contentOf(SIZE, index)]));
  const contentFor = (name: string) => contents.get(name) ?? Buffer.alloc(0);
  const { origin, requests } = await startServer(t, (request, response) =>
    serve(request, response, contentFor(request.url?.[1] ?? ''), { length, etag: '"1"' }),
  );
  const folder = cacheFolder(t);
  const source = (name: string) => ({
    taskPackage: taskPackage(`${origin}/${name}.gvmi`, contentFor(name)),
    cacheFolder: folder,
    cacheLimit: LIMIT,
  });
  const lease = (name: string, options: Partial<FetchOptions> = {}) =>
    leaseImage({ ...source(name), ...options });
  const fetch = (name: string, options: Partial<FetchOptions> = {}) =>
    fetchImage({ ...source(name), ...options });
  const nameOf = (name: string) => `${name}_${sha3(contentFor(name))}.gvmi`;
  /** The image was used so many seconds after the epoch. */
  const used = (name: string, seconds: number) =>
    utimesSync(join(folder, '.ya-vm', `${nameOf(name)}.json`), seconds, seconds);
  /** Letters of the images that are there. */
  const there = () =>
    readdirSync(folder)
      .filter((name) => /^[a-h]_[0-9a-f]{56}\.gvmi$/.test(name))
      .map((name) => name[0])
      .join('');
  return { origin, requests, folder, contentFor, source, lease, fetch, nameOf, used, there };
}

t.test('the image that was not used for the longest time goes first, with its record', async (t) => {
  const { fetch, used, there, folder, nameOf } = await setUp(t);
  await fetch('a');
  await fetch('b');
  used('a', 1000);
  used('b', 2000);
  t.equal(there(), 'ab');
  await fetch('a');
  await fetch('c');
  t.equal(there(), 'ac', 'a was used since');
  t.notOk(existsSync(join(folder, '.ya-vm', `${nameOf('b')}.json`)));
  await fetch('b');
  t.equal(there(), 'bc');
});

t.test('an image that somebody uses stays', async (t) => {
  const { fetch, lease, used, there } = await setUp(t);
  const [first, second] = [await lease('a'), await lease('a')];
  used('a', 1000);
  await fetch('b');
  used('b', 2000);
  await first.release();
  await first.release();
  await fetch('c');
  t.equal(there(), 'ac', 'two had it');
  await second.release();
  used('a', 1000);
  await fetch('d');
  t.equal(there(), 'cd');
});

t.test('the lease goes with the process', async (t) => {
  const { fetch, source, used, there } = await setUp(t);
  const { child, leased, ended } = leaseElsewhere(source('a'));
  t.match(await leased, /\/a_/);
  used('a', 1000);
  await fetch('b');
  await fetch('c');
  t.match(there(), /^a/);
  child.kill('SIGKILL');
  await ended;
  used('a', 1000);
  await fetch('d');
  t.notMatch(there(), /a/);
});

t.test('upstream’s images count and go; what has another name only counts', async (t) => {
  const { fetch, folder, there } = await setUp(t);
  const hex = 'a'.repeat(56);
  mkdirSync(join(folder, 'tmp'), { recursive: true });
  const kept = [
    'notes.txt',
    `x_${hex.slice(1)}.gvmi`,
    `.x_${hex}.gvmi`,
    `x_${hex}.tar.gz`,
    `x${hex}`,
    'tmp/part',
  ];
  for (const name of kept) writeFileSync(join(folder, name), 'x');
  mkdirSync(join(folder, `folder_${hex}.gvmi`));
  symlinkSync('notes.txt', join(folder, `link_${hex}.gvmi`));
  for (const [index, name] of [`u_${hex}.gvmi`, `v_${hex}`, `w_${'b'.repeat(128)}.gvmi`].entries()) {
    writeFileSync(join(folder, name), contentOf(SIZE, 100));
    utimesSync(join(folder, name), 1000 + index, 1000 + index);
  }
  await fetch('a');
  t.notOk(existsSync(join(folder, `u_${hex}.gvmi`)));
  t.notOk(existsSync(join(folder, `v_${hex}`)));
  t.ok(existsSync(join(folder, `w_${'b'.repeat(128)}.gvmi`)), 'there is room for one');
  await fetch('b', { cacheLimit: 1 });
  t.equal(there(), 'b', 'too large an image is fetched all the same');
  for (const name of [...kept, `folder_${hex}.gvmi`, `link_${hex}.gvmi`])
    t.ok(existsSync(join(folder, name)), name);
});

t.test('what killed downloads have left goes before any image', async (t) => {
  const { fetch, folder, there } = await setUp(t);
  await fetch('a');
  const part = join(folder, '.ya-vm', `x_${'a'.repeat(56)}.1-0.part`);
  writeFileSync(part, contentOf(SIZE, 100));
  await fetch('b');
  t.equal(there(), 'ab');
  t.notOk(existsSync(part));
});

t.test('who only announces much evicts nothing', async (t) => {
  const { fetch, there } = await setUp(t);
  await fetch('a');
  await fetch('b');
  const huge = await setUp(t, 2 ** 52);
  const error = fetch('c', { taskPackage: huge.source('c').taskPackage, maxSize: 2 ** 53 });
  await t.rejects(error, { code: 'YAVM_E_IMAGE_DOWNLOAD', message: /no room/ });
  t.equal(there(), 'ab');
  const some = await setUp(t, 2 ** 31);
  const sources = { taskPackage: some.source('c').taskPackage, sleep: async () => {} };
  await t.rejects(fetch('c', sources), { code: 'YAVM_E_IMAGE_DOWNLOAD' });
});

const skip = process.getuid?.() === 0 ? false : 'needs root, for a small file system';
for (const length of [undefined, null]) {
  const what = length === null ? 'without a length' : 'with its length known before';
  t.test(`a full disk: old images make room, ${what}`, { skip }, async (t) => {
    const { folder, source, contentFor, nameOf, origin } = await setUp(t, length);
    const old = join(folder, '..', nameOf('a'));
    writeFileSync(old, contentFor('a'));
    mkdirSync(folder);
    // Room for one image, and not for two.
    const mount = `mount -t tmpfs -o size=${1.5 * SIZE} none ${folder} && cp ${old} ${folder}/ && exec "$@"`;
    const list = `"$@" && ls ${folder} >&2`;
    const within = withMounts(mount, list);
    const options = { ...source('b'), cacheLimit: undefined };
    const { ended, errors } = fetchElsewhere(options, within);
    t.strictSame(await ended, { code: 0, output: join(folder, nameOf('b')) });
    t.match(errors(), `${nameOf('b')}\n`);
    t.notMatch(errors(), nameOf('a'));

    const used = `flock -s ${join(folder, nameOf('a'))} "$@"`;
    const locked = withMounts(mount, used);
    const full = await fetchElsewhere(options, locked).ended;
    t.match(full.output, length === null ? /the disk is full, no room for/ : /no room for the image/);
    t.match(full.output, `YAVM_E_IMAGE_DOWNLOAD ${folder}`);
    if (length === null) t.match(full.output, origin);
    t.match(full.output, / $/, 'nothing is left');
  });
}

t.test(
  'many that want different images of a small cache: each has its own as long as it needs it',
  async (t) => {
    const { lease, contentFor, folder, requests } = await setUp(t);
    const random = new Random();
    t.comment(`seed ${random.seed}`);
    let wrong = 0;
    // More images than users: not all can be in use.
    const use = async () => {
      for (let round = count(200); round > 0; round--) {
        const name = random.pick([...'abcdefgh']);
        const image = await lease(name, { logger: undefined });
        for (let turn = random.between(0, 4); turn > 0; turn--) {
          await new Promise((resolve) => setImmediate(resolve));
        }
        if (!readFileSync(image.path).equals(contentFor(name))) wrong++;
        await image.release();
      }
    };
    await Promise.all(Array.from({ length: 6 }, use));
    t.equal(wrong, 0);
    t.ok(requests.length > 6, `${requests.length} downloads`);
    t.strictSame(
      readdirSync(join(folder, '.ya-vm')).filter((name) => !name.endsWith('.json')),
      [],
    );
  },
);

t.test('the bound from the environment', async (t) => {
  t.equal(cacheLimit({}), undefined);
  t.equal(cacheLimit({ YA_VM_CACHE_SIZE: '' }), undefined);
  t.equal(cacheLimit({ YA_VM_CACHE_SIZE: '20GB' }), 20e9);
  t.equal(cacheLimit({ YA_VM_CACHE_SIZE: '1.5 GiB' }), 1.5 * 1024 ** 3);
  for (const text of ['much', '-1G', '0']) {
    const error = { code: 'YAVM_E_USAGE', message: /^YA_VM_CACHE_SIZE: / };
    t.throws(() => cacheLimit({ YA_VM_CACHE_SIZE: text }), error, text);
  }
});
