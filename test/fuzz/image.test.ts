/** Hostile layers, archives and configurations: a coded error or a tree, in bounded time and memory, and nothing left. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { expand } from '../../host/image/build/compression.ts';
import { buildConfig } from '../../host/image/build/config.ts';
import { applyLayer } from '../../host/image/build/layer.ts';
import { tarOf } from '../../host/image/build/tar-writer.ts';
import { FileTree, nameParts } from '../../host/image/build/tree.ts';
import { openSource } from '../../host/image/source/source.ts';
import { isYavmError } from '../../host/lib/errors.ts';
import {
  archiveOf,
  newDockerSave,
  ociLayout,
  oldDockerSave,
  type TestImage,
} from '../lib/container-archives.ts';
import { flattenTars, indexOf, treeLines } from '../lib/flatten.ts';
import { debianLike, hardTree } from '../lib/image-trees.ts';
import { file, layerTar, opaque, whiteout } from '../lib/layer-tar.ts';
import { Random } from '../lib/random.ts';
import { paxHeader, rawTar } from '../lib/raw-tar.ts';
import { count } from '../lib/scale.ts';

const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const signal = new AbortController().signal;
const folder = mkdtempSync(join(tmpdir(), 'yavm-fuzz-'));
t.teardown(() => rmSync(folder, { recursive: true }));

/** Errors that a hostile image may bring about. */
const CODES = /^YAVM_E_IMAGE_(ARCHIVE|DIGEST|SOURCE|PLATFORM|METADATA|UNREADABLE)$/;

/** @returns whether it went through. @throws what is no coded error of an image */
async function survives(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (isYavmError(error) && CODES.test(error.code)) return false;
    throw error;
  }
}

const LAYERS = [
  layerTar(debianLike(Buffer.from('busybox')).layers.flat()),
  layerTar(
    hardTree(5)
      .layers.flat()
      .filter(({ path }) => path !== 'zeros'),
    'gnu',
  ),
  layerTar([file('a/b', '1'), whiteout('a/b'), opaque('a'), file('.wh.x/y')]),
  rawTar(
    paxHeader({
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.name': 's',
      'GNU.sparse.realsize': '99',
    }),
    { name: 'x', content: `${'2\n0\n5\n90\n3\n'.padEnd(512, '\0')}AAAAABBB` },
    paxHeader({ 'GNU.sparse.size': '99', 'GNU.sparse.map': '0,5,90,3' }),
    { name: 'y', content: 'AAAAABBB' },
    paxHeader({ path: 'z/'.repeat(80), size: '3', mtime: '5.5' }, 'g'),
    { name: 'z', content: 'abc' },
  ),
];

/** Changed so that the headers' checksums are right again: what lies behind them is reached. */
function mutated(tar: Buffer): Buffer {
  if (random.chance(3)) return Buffer.from(random.mutate(tar));
  const bytes = Buffer.from(tar);
  for (let changes = random.between(1, 8); changes > 0; changes--) {
    const block = random.between(0, bytes.length / 512) * 512;
    const at =
      block + random.pick([random.between(0, 157), random.between(100, 160), random.between(0, 512)]);
    bytes[at] = random.pick([
      0,
      0x2e,
      0x2f,
      0x30,
      0x35,
      0x37,
      0x4b,
      0x53,
      0x67,
      0x78,
      0x80,
      0xff,
      random.next() & 0xff,
    ]);
  }
  for (let block = 0; block < bytes.length; block += 512) {
    if (bytes.toString('latin1', block + 257, block + 262) !== 'ustar') continue;
    bytes.fill(' ', block + 148, block + 156);
    const sum = bytes.subarray(block, block + 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, block + 148, 'latin1');
  }
  return bytes;
}

t.test('layers', async (t) => {
  let through = 0;
  for (let round = count(20_000); round > 0; round--) {
    const layers = [random.pick(LAYERS), mutated(random.pick(LAYERS)), mutated(random.pick(LAYERS))];
    const went = await survives(async () => {
      const tree = await flattenTars(layers);
      // Apparent sizes may be anything; what is stored is in the tar.
      let bytes = 0;
      const pieces: Buffer[] = [];
      for (const piece of tarOf(tree)) {
        bytes += piece.length;
        if (bytes < 2 ** 24) pieces.push(piece);
      }
      if (bytes > 2 ** 24) throw new Error(`${bytes} bytes of three small layers`);
      const names = (await indexOf(Buffer.concat(pieces))).map(({ name }) => name);
      for (const name of names) nameParts(name);
      const again = await flattenTars([Buffer.concat(pieces)], { whiteouts: false });
      if (treeLines(again).length !== treeLines(tree).length)
        throw new Error('another tree than was written');
    });
    if (went) through++;
  }
  t.ok(through > 0, `${through} could be used`);
});

t.test('archives of images', async (t) => {
  const small: TestImage = {
    tags: ['a:1'],
    config: { Env: ['A=1'], Volumes: { '/v': {} } },
    layers: [layerTar([file('f', 'x')]), layerTar([whiteout('f')])],
  };
  const archives = [
    archiveOf(oldDockerSave(small)),
    archiveOf(newDockerSave(['gzip'], small, { ...small, tags: ['b:2'] })),
    archiveOf(ociLayout(['zstd', 'plain'], small)),
    gzipSync(archiveOf(oldDockerSave(small))),
    zstdCompressSync(archiveOf(ociLayout(['gzip'], small))),
  ];
  const path = join(folder, 'archive');
  let through = 0;
  for (let round = count(10_000); round > 0; round--) {
    const archive = random.pick(archives);
    writeFileSync(path, random.chance(2) ? mutated(archive) : random.mutate(archive, 3));
    const kind = random.pick(['', '', 'docker-archive:', 'oci-archive:']);
    const went = await survives(async () => {
      const source = await openSource(`${kind}${path}`, {
        signal,
        temp: folder,
        tag: random.pick([undefined, 'a:1']),
      });
      try {
        if (source.kind !== 'container') return;
        buildConfig(source.image.config, {});
        const tree = new FileTree(0);
        for (const [layer, each] of source.image.layers.entries()) {
          const { section, spool } = await expand(each.section, { ...each, signal, folder });
          try {
            await applyLayer(tree, section, { layer, whiteouts: true, signal });
          } finally {
            spool?.close();
          }
        }
      } finally {
        source.close();
      }
    });
    if (went) through++;
  }
  t.ok(through > 0, `${through} could be used`);
  t.same(readdirSync(folder), ['archive'], 'nothing is left');
});

t.test('configurations', async (t) => {
  const values = [
    null,
    0,
    '',
    'x',
    '/a/../b',
    [],
    ['A=1'],
    [1],
    {},
    { '/v': null },
    { a: 1 },
    'x'.repeat(200_000),
    true,
  ];
  const names = [
    'Env',
    'Cmd',
    'Entrypoint',
    'WorkingDir',
    'User',
    'Volumes',
    'Labels',
    'ExposedPorts',
    '__proto__',
  ];
  for (let round = count(20_000); round > 0; round--) {
    const config = JSON.parse(
      JSON.stringify(Object.fromEntries(names.map((name) => [name, random.pick(values)]))),
    );
    await survives(async () => buildConfig(config, { env: ['A=2'], labels: ['a=b'], volumes: ['/v'] }));
  }
  t.pass('a configuration, or a coded error');
});
