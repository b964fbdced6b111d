/** Whole builds, without a VM: what is in the image, that the same source makes the same bytes, and what is left when it fails. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { type BuildOptions, buildImage } from '../../host/image/build/build.ts';
import { planOwners } from '../../host/image/build/owners.ts';
import { PACKERS } from '../../host/image/build/packers.ts';
import { openSource } from '../../host/image/source/source.ts';
import { verifyImage } from '../../host/image/verify.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { archiveOf, newDockerSave, ociLayout, oldDockerSave } from '../lib/container-archives.ts';
import { alpineLike, debianLike, distrolessLike, hardTree, type TestTree } from '../lib/image-trees.ts';
import { directory, file, layerTar, type TreeItem } from '../lib/layer-tar.ts';
import { count } from '../lib/scale.ts';
import { type ListedItem, listSquashfs } from '../lib/squashfs-listing.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-build-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const output = join(folder, 'out.gvmi');
let files = 0;

function put(bytes: Buffer): string {
  const path = join(folder, `source-${files++}.tar`);
  writeFileSync(path, bytes);
  return path;
}

interface Built {
  bytes: Buffer;
  tree: Map<string, ListedItem>;
}

async function build(reference: string, options: Partial<BuildOptions> = {}): Promise<Built> {
  const { signal = new AbortController().signal } = options;
  const source = await openSource(reference, { signal, temp: folder });
  try {
    if (source.kind === 'image') throw new Error('an image already');
    const { path } = await buildImage({ source, output, compressor: 'zstd', level: 1, signal, ...options });
    return { bytes: readFileSync(path), tree: listSquashfs(path) };
  } finally {
    source.close();
  }
}

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** Whether the tree is the expected one; directories that no layer has must be plain. */
function checkTree(t: Test, tree: ReadonlyMap<string, ListedItem>, expected: readonly TreeItem[]): void {
  const missing = new Map(expected.map((each) => [each.path, each]));
  const wrong: string[] = [];
  for (const [path, found] of tree) {
    if (path === '') continue;
    const wanted = missing.get(path) ?? directory(path, { mtime: found.mtime });
    missing.delete(path);
    if (factsOf(found) !== factsOf(wanted)) wrong.push(`${path}: ${factsOf(found)}, not ${factsOf(wanted)}`);
    if (wanted.content && !found.content?.equals(wanted.content)) wrong.push(`${path}: its content`);
  }
  t.same(wrong, [], 'everything is as it should be');
  t.same([...missing.keys()], [], 'nothing is missing');
}

function factsOf({ kind, mode, uid, gid, mtime, target, device }: TreeItem | ListedItem): string {
  // What a hard link is says the file that it leads to.
  if (kind === 'hardlink') return `hard link to ${target}`;
  return JSON.stringify({ kind, mode: mode.toString(8), uid, gid, mtime, target, device });
}

const BUSYBOX = Buffer.alloc(900_000, 'stands for a program ');

const TREES: [name: string, tree: TestTree][] = [
  ['Alpine', alpineLike(BUSYBOX)],
  ['Debian', debianLike(BUSYBOX)],
  ['distroless', distrolessLike(BUSYBOX)],
  ['hard', hardTree(count(2000))],
];

for (const [name, { config, layers, expected }] of TREES) {
  t.test(`${name}-like: every form of archive makes the same image, byte for byte`, async (t) => {
    const image = { tags: ['job:1'], config, layers: layers.map((items) => layerTar(items)) };
    const gnu = { ...image, layers: layers.map((items) => layerTar(items, 'gnu')) };
    const first = await build(put(archiveOf(oldDockerSave(image))));
    checkTree(t, first.tree, expected);
    const info = await verifyImage(output);
    t.match(info, { kind: 'gvmi', compressor: 'zstd' });
    t.match(info.config, { env: (config as { Env?: string[] }).Env ?? [] });
    const others: [string, Buffer][] = [
      ['the same again', archiveOf(oldDockerSave(image))],
      ['docker save, new', archiveOf(newDockerSave(['gzip'], image))],
      ['OCI', archiveOf(ociLayout(['zstd', 'gzip', 'plain'], image))],
      ["GNU's long names", archiveOf(ociLayout(['plain'], gnu))],
    ];
    for (const [what, bytes] of others)
      t.equal(hashOf((await build(put(bytes))).bytes), hashOf(first.bytes), what);
  });
}

t.test('a tar and a folder of a root file system', async (t) => {
  const items = [
    directory('.', { mode: 0o711 }),
    directory('etc'),
    file('etc/.wh.x', 'no mark here'),
    file('f', 'x', { uid: 7 }),
  ];
  const tar = layerTar(items);
  const plain = await build(put(tar));
  checkTree(t, plain.tree, items.slice(1));
  t.match(plain.tree.get(''), { mode: 0o711, uid: 0, gid: 0, mtime: 1_600_000_000 }, 'the root');
  t.equal(hashOf((await build(put(gzipSync(tar)))).bytes), hashOf(plain.bytes), 'compressed');
  const root = join(folder, 'root');
  mkdirSync(join(root, 'etc'), { recursive: true });
  writeFileSync(join(root, 'etc', 'id'), 'x', { mode: 0o600 });
  symlinkSync('etc/id', join(root, 'link'));
  chmodSync(root, 0o755);
  utimesSync(root, 5, 1_500_000_000);
  const made = await build(root, { owner: { uid: 0, gid: 0 } });
  t.match(made.tree.get('etc/id'), { uid: 0, gid: 0, mode: 0o600, content: Buffer.from('x') });
  t.match(made.tree.get('link'), { kind: 'symlink', target: 'etc/id' });
  t.match(made.tree.get(''), { mtime: 1_500_000_000, mode: 0o755 });
  t.equal(
    hashOf((await build(root, { owner: { uid: 0, gid: 0 } })).bytes),
    hashOf(made.bytes),
    'the same again',
  );
  const own = process.getuid?.() ?? 0;
  t.match((await build(root, { owner: 'keep' })).tree.get('etc/id'), { uid: own });
  t.match(
    (await build(root)).tree.get('etc/id'),
    { uid: 0 },
    'an ordinary user’s files are root’s, root’s are as they are',
  );
  t.match((await build(root, { owner: { uid: 12, gid: 34 } })).tree.get('etc/id'), { uid: 12, gid: 34 });
  await t.rejects(build(root, { output: join(root, 'etc', 'out.gvmi') }), {
    code: 'YAVM_E_IMAGE_BUILD',
    message: /lies in/,
  });
});

t.test('owners: the builder’s own number is like any other', async (t) => {
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  const owned = [
    directory('.', { uid: 77, gid: 77 }),
    ...[0, 1, 1000, uid, gid, 77, 4_294_967_294, 4_294_967_293].map((id, index) =>
      file(`f${index}`, '', { uid: id, gid: id }),
    ),
    file('mixed', '', { uid, gid: 5 }),
  ];
  const { tree } = await build(put(layerTar(owned)));
  checkTree(t, tree, owned.slice(1));
  t.match(tree.get(''), { uid: 77, gid: 77 }, 'and the root’s is its own');
  const other = await build(put(layerTar([directory('.', { uid: 3, gid: 4 })])));
  t.match(other.tree.get(''), uid === gid ? { uid: 0, gid: 0 } : { uid: 3, gid: 4 });
  const forced = await build(put(layerTar(owned)), { owner: { uid: 8, gid: 9 } });
  t.ok([...forced.tree.values()].every((each) => each.uid === 8 && each.gid === 9));
});

t.test('the table of owners, in several blocks', async (t) => {
  const many = Array.from({ length: 3000 }, (_, index) =>
    file(`f${index}`, '', { uid: 10_000 + index, gid: 7 }),
  );
  checkTree(t, (await build(put(layerTar(many)))).tree, many);
  const plan = planOwners(new Set([5, 2 ** 32 - 2, 6]), { uid: 5, gid: 6 }, { uid: 1, gid: 2 });
  t.same([plan.inTar(5), plan.inTar(6), plan.inTar(7)], [2 ** 32 - 3, 2 ** 32 - 4, 7]);
  t.same(
    [...plan.table],
    [
      [2 ** 32 - 3, 5],
      [2 ** 32 - 4, 6],
      [5, 1],
      [6, 2],
    ],
  );
});

t.test('times', async (t) => {
  const env = { ...process.env, SOURCE_DATE_EPOCH: '1500000000' };
  const tar = put(
    layerTar([
      file('old', '', { mtime: 1_400_000_000 }),
      file('new', ''),
      file('future', '', { mtime: 4_000_000_000 }),
    ]),
  );
  const cut = await build(tar, { env });
  t.match(cut.tree.get('old'), { mtime: 1_400_000_000 });
  t.match(cut.tree.get('new'), { mtime: 1_500_000_000 }, 'cut to SOURCE_DATE_EPOCH');
  t.equal((await verifyImage(output)).created, 1_500_000_000);
  const own = await build(tar);
  t.match(
    own.tree.get('future'),
    { mtime: 1_600_000_000 },
    'what comes from the future is as old as the youngest',
  );
  t.equal((await verifyImage(output)).created, 1_600_000_000);
  const root = join(folder, 'timed');
  mkdirSync(root);
  writeFileSync(join(root, 'f'), '');
  t.match((await build(root, { env })).tree.get('f'), { mtime: 1_500_000_000 });
  for (const SOURCE_DATE_EPOCH of ['now', '-1', '99999999999'])
    await t.rejects(build(tar, { env: { ...env, SOURCE_DATE_EPOCH } }), { code: 'YAVM_E_USAGE' });
});

t.test('each compressor', async (t) => {
  const tar = put(layerTar([file('f', 'content '.repeat(50_000))]));
  for (const compressor of PACKERS) {
    const { tree } = await build(tar, { compressor, level: undefined });
    t.equal((await verifyImage(output)).compressor, compressor);
    t.equal(tree.get('f')?.content?.length, 400_000, compressor);
  }
  for (const [compressor, level] of [
    ['zstd', 22],
    ['lz4', 2],
    ['gzip', 9],
    ['lzo', 1],
  ] as const)
    t.ok(await build(tar, { compressor, level }), `${compressor} ${level}`);
  for (const [compressor, level] of [
    ['zstd', 23],
    ['lz4', 3],
    ['gzip', 0],
    ['xz', 1],
  ] as const)
    await t.rejects(build(tar, { compressor, level }), { code: 'YAVM_E_USAGE' }, `${compressor} ${level}`);
});

t.test('the configuration: the source’s, changed', async (t) => {
  const config = {
    Env: ['A=1', 'B=2'],
    Entrypoint: ['/entry'],
    Cmd: ['cmd'],
    User: 'job',
    Volumes: { '/data': null },
    Labels: { one: '1' },
    ExposedPorts: { '80/tcp': {} },
    Hostname: 'left out',
  };
  const reference = put(archiveOf(oldDockerSave({ tags: ['x'], config, layers: [layerTar([file('f')])] })));
  const trailer = (bytes: Buffer) => {
    const length = Number(bytes.toString('latin1', bytes.length - 8));
    return JSON.parse(bytes.toString('utf8', bytes.length - 8 - length, bytes.length - 8));
  };
  t.same(trailer((await build(reference)).bytes), {
    Env: ['A=1', 'B=2'],
    Entrypoint: ['/entry'],
    Cmd: ['cmd'],
    WorkingDir: '',
    User: 'job',
    Volumes: { '/data': {} },
    Labels: { one: '1' },
    ExposedPorts: { '80/tcp': {} },
  });
  const changes = {
    env: ['B=3', 'C=a=b'],
    entrypoint: ['/other', 'word'],
    workingDir: '/w',
    user: '1:2',
    volumes: ['/more', '/data'],
    labels: ['two=2'],
  };
  t.same(trailer((await build(reference, { changes })).bytes), {
    Env: ['A=1', 'B=3', 'C=a=b'],
    Entrypoint: ['/other', 'word'],
    Cmd: [],
    WorkingDir: '/w',
    User: '1:2',
    Volumes: { '/data': {}, '/more': {} },
    Labels: { one: '1', two: '2' },
    ExposedPorts: { '80/tcp': {} },
  });
  t.match(trailer((await build(reference, { changes: { cmd: ['new'] } })).bytes), {
    Entrypoint: ['/entry'],
    Cmd: ['new'],
  });
  await t.rejects(build(reference, { changes: { volumes: ['/a/../b'] } }), { code: 'YAVM_E_IMAGE_METADATA' });
});

// ---------------------------------------------------------------- failures

/** Names in the folder of the output but for sources and the output. */
const leftovers = () =>
  readdirSync(folder).filter((name) => !/^(source-\d+\.tar|out\.gvmi|root|timed|bin)$/.test(name));

t.test('what fails leaves the output as it was, and nothing else', async (t) => {
  const tar = put(layerTar([file('f', 'x')]));
  const { bytes } = await build(tar);
  const cut = put(layerTar([file('a', 'x'), file('big', Buffer.alloc(100_000))]).subarray(0, 5000));
  await t.rejects(build(cut), { code: 'YAVM_E_IMAGE_ARCHIVE' }, 'a source that is cut off');
  const path = join(folder, 'bin');
  mkdirSync(path);
  let programs = 0;
  const program = (script: string) => {
    const name = join(path, `mksquashfs-${programs++}`);
    writeFileSync(name, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return { ...process.env, YAVM_MKSQUASHFS: name };
  };
  const cases: [what: string, env: Record<string, string | undefined>, code: string, says: RegExp][] = [
    ['not there', { ...process.env, YAVM_MKSQUASHFS: '/none' }, 'YAVM_E_MKSQUASHFS_MISSING', /none/],
    [
      'an error',
      program('echo FATAL ERROR: no good >&2; exit 1'),
      'YAVM_E_IMAGE_BUILD',
      /status 1: FATAL ERROR: no good/,
    ],
    ['reads nothing', program('exec <&-; exit 3'), 'YAVM_E_IMAGE_BUILD', /status 3/],
    ['is killed', program('touch "$2"; kill -9 $$'), 'YAVM_E_IMAGE_BUILD', /SIGKILL/],
    [
      'a full disk',
      program('cat >/dev/null; touch "$2"; echo Write failed because No space left on device >&2; exit 1'),
      'YAVM_E_DISK_FULL',
      /room/,
    ],
    ['makes nothing', program('cat >/dev/null'), 'YAVM_E_IMAGE_BUILD', /cannot be written/],
  ];
  for (const [what, env, code, message] of cases)
    await t.rejects(build(tar, { env }), { code, message }, what);
  await t.rejects(build(tar, { output: join(folder, 'none', 'x.gvmi') }), { code: 'YAVM_E_IMAGE_BUILD' });
  await t.rejects(build(tar, { output: folder }), { code: 'YAVM_E_IMAGE_BUILD', message: /is a folder/ });
  t.equal(hashOf(readFileSync(output)), hashOf(bytes), 'the output is what it was');
  t.same(leftovers(), []);
});

t.test('an abort, while layers are read and while they are packed', async (t) => {
  const layer = layerTar(
    Array.from({ length: 40 }, (_, index) => file(`f${index}`, Buffer.alloc(1_000_000, `${index} text `))),
  );
  const image = { tags: ['x'], config: {}, layers: [layer] };
  const reference = put(archiveOf(ociLayout(['gzip'], image)));
  for (const step of ['read', 'pack']) {
    const abort = new AbortController();
    const building = build(reference, {
      signal: abort.signal,
      onStep: (now) => {
        if (now.step === step) abort.abort(new Error(`enough of ${step}`));
      },
    });
    await t.rejects(building, { message: `enough of ${step}` });
    t.same(leftovers(), []);
  }
  const ended = deferred<void>();
  const root = join(folder, 'root');
  const abort = new AbortController();
  const building = build(root, { signal: abort.signal, compressor: 'xz', level: undefined });
  setImmediate(() => {
    abort.abort(new Error('enough of a folder'));
    ended.resolve();
  });
  await t.rejects(building, { message: 'enough of a folder' });
  await ended.promise;
  t.same(leftovers(), []);
});

t.test(
  'a file that cannot be read is an error, not an empty file',
  { skip: process.getuid?.() === 0 && 'root reads everything' },
  async (t) => {
    const root = join(folder, 'root');
    chmodSync(join(root, 'etc', 'id'), 0);
    await t.rejects(build(root), { code: 'YAVM_E_IMAGE_BUILD', hint: /readable/ });
    t.same(leftovers(), []);
  },
);
