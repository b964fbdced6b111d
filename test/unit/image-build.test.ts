/** Whole builds, without a VM: what is in the image, that the same source makes the same bytes, and what is left when it fails. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { planOwners } from '../../host/image/build/owners.ts';
import { PACKERS } from '../../host/image/build/packers.ts';
import { verifyImage } from '../../host/image/verify.ts';
import { run } from '../lib/archives.ts';
import { archiveOf, newDockerSave, ociLayout, oldDockerSave } from '../lib/container-archives.ts';
import { indexOf } from '../lib/flatten.ts';
import { imageBuilds } from '../lib/image-builds.ts';
import { alpineLike, debianLike, distrolessLike, hardTree, type TestTree } from '../lib/image-trees.ts';
import { directory, fifo, file, layerTar, symlink, type TreeItem } from '../lib/layer-tar.ts';
import { count } from '../lib/scale.ts';
import type { ListedItem } from '../lib/squashfs-listing.ts';

const { folder, output, put, build } = imageBuilds(t);
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

t.test(
  'attributes of every kind',
  { skip: process.getuid?.() !== 0 && 'only root sees them all' },
  async (t) => {
    const xattrs = {
      'user.bytes': '\0\n=\xff',
      'user.empty': '',
      'trusted.t': 't',
      'security.capability': '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0',
    };
    const trusted = { 'trusted.t': 't' };
    const items = [
      directory('d', { xattrs }),
      file('f', '', { xattrs }),
      symlink('l', 'f', { xattrs: trusted }),
      fifo('p', { xattrs: trusted }),
    ];
    await build(put(layerTar(items)));
    const unpacked = join(folder, 'unpacked');
    run('unsquashfs', ['-no-progress', '-quiet', '-d', unpacked, output]);
    const tar = run('tar', [
      '--xattrs',
      '--xattrs-include=*',
      '-C',
      unpacked,
      '-cf',
      '-',
      'd',
      'f',
      'l',
      'p',
    ]);
    rmSync(unpacked, { recursive: true });
    for (const [index, { name, xattrs: found }] of (await indexOf(tar)).entries()) {
      const texts = [...(found ?? [])].map(([key, value]) => [key, value.toString('latin1')]);
      t.same(
        Object.fromEntries(texts.filter(([key]) => key !== 'security.selinux')),
        items[index]?.xattrs,
        name,
      );
    }
  },
);

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
