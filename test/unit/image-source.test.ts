/** What can be built from: references, docker's archives, OCI layouts; which image is meant; what is refused. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { expand } from '../../host/image/build/compression.ts';
import { readPart } from '../../host/image/build/section.ts';
import type { ContainerImage } from '../../host/image/source/container-image.ts';
import { parseReference } from '../../host/image/source/reference.ts';
import { openSource } from '../../host/image/source/source.ts';
import { toError } from '../../host/lib/errors.ts';
import { isThere, run } from '../lib/archives.ts';
import {
  addBlob,
  archiveOf,
  configFile,
  type FileMap,
  json,
  newDockerSave,
  ociLayout,
  oldDockerSave,
  sha256,
  type TestImage,
  writeFiles,
} from '../lib/container-archives.ts';
import { directory, file, layerTar } from '../lib/layer-tar.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-source-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const signal = new AbortController().signal;
let files = 0;

/** A file of its own with this content. */
function put(content: Buffer | FileMap, name = `${files++}`): string {
  const path = join(folder, name);
  writeFileSync(path, Buffer.isBuffer(content) ? content : archiveOf(content));
  return path;
}

/** A folder of its own with these files. */
function putFolder(content: FileMap): string {
  const path = join(folder, `${files++}`);
  mkdirSync(path);
  writeFiles(path, content);
  return path;
}

/** Opens, reads all layers, closes. @returns the layers' tars, and the rest */
async function read(
  reference: string,
  tag?: string,
): Promise<ContainerImage & { tars: Buffer[]; kind: string }> {
  const source = await openSource(reference, { signal, temp: folder, tag });
  try {
    if (source.kind !== 'container') throw new Error(`${reference} is ${source.kind}`);
    const tars: Buffer[] = [];
    for (const { section, stored, plain } of source.image.layers) {
      const { section: tar, spool } = await expand(section, { signal, folder, stored, plain });
      tars.push(readPart(tar, 0, tar.size));
      spool?.close();
    }
    return { ...source.image, tars, kind: source.kind };
  } finally {
    source.close();
  }
}

const kindOf = async (path: string): Promise<string> => {
  const source = await openSource(path, { signal, temp: folder });
  source.close();
  return source.kind;
};

const BASE = layerTar([directory('etc'), file('etc/id', 'base')]);
const TOP = layerTar([file('etc/id', 'top')]);
const IMAGE: TestImage = { tags: ['job:1'], config: { Cmd: ['/bin/sh'] }, layers: [BASE, TOP, BASE] };
const OTHER: TestImage = { tags: ['other:2', 'other:latest'], config: {}, layers: [TOP] };

t.test('references', async (t) => {
  const there = new Set(['/a', '/a:b', 'rel/x.tar', 'docker://odd']);
  const exists = (path: string) => there.has(path);
  const parse = (text: string) => parseReference(text, exists);
  t.same(parse('x.gvmi'), { kind: 'path', path: 'x.gvmi' });
  t.same(parse('docker-archive:/a'), { kind: 'docker-archive', path: '/a' });
  t.same(parse('docker-archive:/a:job:1'), { kind: 'docker-archive', path: '/a', tag: 'job:1' });
  t.same(parse('oci:/a:b'), { kind: 'oci', path: '/a:b' }, 'the longest that is there');
  t.same(parse('oci:/a:b:c'), { kind: 'oci', path: '/a:b', tag: 'c' });
  t.same(parse('oci-archive:rel/x.tar:sha256:00'), {
    kind: 'oci-archive',
    path: 'rel/x.tar',
    tag: 'sha256:00',
  });
  t.same(parse('oci:/none:host:5000/x:y'), { kind: 'oci', path: '/none', tag: 'host:5000/x:y' });
  t.same(parse('docker://odd'), { kind: 'path', path: 'docker://odd' });
  for (const bad of ['', 'oci:', 'docker-archive::tag', 'docker://alpine', 'docker-daemon:alpine:latest'])
    t.throws(() => parse(bad), { code: 'YAVM_E_IMAGE_SOURCE' }, bad);
});

t.test('archives of docker, old and new, and OCI layouts, in every form: the same layers', async (t) => {
  const sources: [name: string, reference: string][] = [
    ['docker save, old', `docker-archive:${put(oldDockerSave(IMAGE))}`],
    ['by its content', put(oldDockerSave(IMAGE))],
    ['docker save, new', put(newDockerSave(['plain'], IMAGE))],
    ['with compressed layers', `docker-archive:${put(newDockerSave(['gzip', 'zstd', 'plain'], IMAGE))}`],
    ['the same as OCI', `oci-archive:${put(newDockerSave(['gzip'], IMAGE))}`],
    ['OCI archive', put(ociLayout(['zstd', 'plain'], IMAGE))],
    ['OCI layout', `oci:${putFolder(ociLayout(['gzip', 'zstd'], IMAGE))}`],
    ['by its content', putFolder(ociLayout(['plain'], IMAGE))],
    ['gzip around all', `docker-archive:${put(gzipSync(archiveOf(oldDockerSave(IMAGE))))}`],
    ['zstd around all', put(zstdCompressSync(archiveOf(ociLayout(['gzip'], IMAGE))))],
  ];
  for (const program of ['xz', 'bzip2'] as const) {
    if (!isThere(program)) continue;
    const packed = run(program, ['-c'], { input: archiveOf(oldDockerSave(IMAGE)) });
    sources.push([`${program} around all`, put(packed)]);
  }
  for (const [name, reference] of sources) {
    const image = await read(reference);
    t.same(image.tars, IMAGE.layers, name);
    t.match(image, {
      config: { Cmd: ['/bin/sh'] },
      created: 1_614_834_367,
      digest: sha256(configFile(IMAGE)),
    });
  }
});

t.test('what is no archive of images', async (t) => {
  t.equal(await kindOf(put(BASE)), 'tar');
  t.equal(await kindOf(put(gzipSync(BASE))), 'tar');
  t.equal(await kindOf(put(Buffer.alloc(10_240))), 'tar', 'an empty one');
  t.equal(await kindOf(put(layerTar([file('manifest.json', '{"no": "list"}'), file('x')]))), 'tar');
  t.equal(await kindOf(put(layerTar([directory('manifest.json'), directory('oci-layout')]))), 'tar');
  t.equal(await kindOf(put(Buffer.from('hsqs and more'))), 'image');
  t.equal(
    await kindOf(put(Buffer.from('something else'))),
    'image',
    'which says what it is when it is looked at',
  );
  t.equal(await kindOf(folder), 'folder');
  symlinkSync(put(BASE, 'target'), join(folder, 'link'));
  t.equal(await kindOf(join(folder, 'link')), 'tar');
  const refused: [string, string][] = [
    [join(folder, 'none'), 'UNREADABLE'],
    ['/dev/null', 'UNREADABLE'],
    [`docker-archive:${put(Buffer.from('hsqs'))}`, 'SOURCE'],
    [`docker-archive:${put(Buffer.from('text'))}`, 'SOURCE'],
    [`docker-archive:${folder}`, 'SOURCE'],
    [`oci:${put(BASE)}`, 'SOURCE'],
    [`docker-archive:${put(BASE)}`, 'ARCHIVE'],
    [`oci-archive:${put(BASE)}`, 'ARCHIVE'],
    [put(Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(100)])), 'ARCHIVE'],
  ];
  for (const [reference, code] of refused)
    await t.rejects(kindOf(reference), { code: `YAVM_E_IMAGE_${code}` }, reference);
  await t.rejects(
    kindOf('no/such/name:1'),
    { code: 'YAVM_E_IMAGE_UNREADABLE', hint: /docker save/ },
    "a name in docker's way",
  );
  for (const path of ['/no/such', './no-such', 'no-such.gvmi'])
    await t.rejects(kindOf(path), { code: 'YAVM_E_IMAGE_UNREADABLE', hint: undefined }, `${path}: a path`);
});

t.test('one of several images', async (t) => {
  for (const [kind, path] of [
    ['docker-archive', put(oldDockerSave(IMAGE, OTHER))],
    ['oci-archive', put(ociLayout(['gzip'], IMAGE, OTHER))],
  ] as const) {
    t.same((await read(`${kind}:${path}:job:1`)).tars, IMAGE.layers);
    t.same((await read(`${kind}:${path}:2`)).tars, OTHER.layers, 'the tag alone');
    t.same((await read(path, 'other:2')).tars, OTHER.layers, 'said beside it');
    for (const reference of [`${kind}:${path}`, `${kind}:${path}:3`]) {
      await t.rejects(read(reference), { code: 'YAVM_E_IMAGE_SOURCE', message: /job:1; other:2/ });
    }
  }
  t.same((await read(`docker-archive:${put(oldDockerSave(OTHER))}:other`)).tars, OTHER.layers, 'latest');
  const byDigest = `docker-archive:${put(oldDockerSave(IMAGE, OTHER))}:${sha256(configFile(OTHER))}`;
  t.same((await read(byDigest)).tars, OTHER.layers, 'the digest of its configuration');
});

t.test('indexes in indexes, and several platforms', async (t) => {
  const arm: TestImage = { ...OTHER, architecture: 'arm64', tags: ['arm'] };
  const files = ociLayout(['gzip'], IMAGE, arm);
  const index = JSON.parse((files.get('index.json') as Buffer).toString());
  const inner = addBlob(files, 'application/vnd.oci.image.index.v1+json', json(index));
  const attestation = {
    ...index.manifests[1],
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
  };
  const list = addBlob(
    files,
    'application/vnd.docker.distribution.manifest.list.v2+json',
    json({ schemaVersion: 2, manifests: [attestation, inner] }),
  );
  files.set('index.json', json({ schemaVersion: 2, manifests: [list] }));
  t.same((await read(put(files))).tars, IMAGE.layers);
  files.set('index.json', json({ schemaVersion: 2, manifests: index.manifests }));
  t.same((await read(put(files))).tars, IMAGE.layers, 'the only one that is ours');
  files.set('index.json', json({ schemaVersion: 2, manifests: [index.manifests[1]] }));
  await t.rejects(read(put(files)), { code: 'YAVM_E_IMAGE_PLATFORM' });
  await t.rejects(read(put(oldDockerSave(arm))), { code: 'YAVM_E_IMAGE_PLATFORM', message: /arm64/ });
  let nested = list;
  for (let depth = 0; depth < 6; depth++)
    nested = addBlob(files, 'application/vnd.oci.image.index.v1+json', json({ manifests: [nested] }));
  files.set('index.json', json({ manifests: [nested] }));
  await t.rejects(read(put(files)), { message: /indexes in each other/ });
});

t.test('what is not what its digest says is refused', async (t) => {
  for (const form of ['plain', 'gzip', 'zstd'] as const) {
    const files = ociLayout([form], { ...IMAGE, layers: [BASE] });
    for (const [name, content] of files) {
      if (!name.startsWith('blobs/') || !Buffer.isBuffer(content)) continue;
      const bytes = Buffer.from(content);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
      const reference = put(new Map([...files, [name, bytes]]));
      await t.rejects(
        read(reference),
        { code: /^YAVM_E_IMAGE_(DIGEST|ARCHIVE)$/ },
        `${form}, ${name}: a bit`,
      );
      const longer = put(new Map([...files, [name, Buffer.concat([content, Buffer.alloc(1)])]]));
      await t.rejects(read(longer), { code: 'YAVM_E_IMAGE_ARCHIVE', message: /announced/ }, 'a byte more');
      const without = new Map(files);
      without.delete(name);
      await t.rejects(read(put(without)), { code: 'YAVM_E_IMAGE_ARCHIVE' }, 'not there');
    }
  }
  const saved = oldDockerSave({ ...IMAGE, layers: [BASE] });
  for (const [name, content] of saved) {
    if (!/layer\.tar$|[0-9a-f]{64}\.json$/.test(name) || !Buffer.isBuffer(content)) continue;
    const bytes = Buffer.concat([content, Buffer.from(name.endsWith('json') ? ' ' : '\0')]);
    await t.rejects(read(put(new Map([...saved, [name, bytes]]))), { code: 'YAVM_E_IMAGE_DIGEST' }, name);
  }
  const two = zstdCompressSync(BASE.subarray(0, 512));
  const rest = zstdCompressSync(BASE.subarray(512));
  const frames = ociLayout(['plain'], { ...IMAGE, layers: [BASE] });
  const manifest = manifestOf(frames);
  manifest.layers = [
    addBlob(frames, 'application/vnd.oci.image.layer.v1.tar+zstd', Buffer.concat([two, rest])),
  ];
  t.same((await read(put(withManifest(frames, manifest)))).tars, [BASE], 'several frames are one layer');
});

interface Manifest {
  schemaVersion: number;
  config: { mediaType: string; digest: string; size: number };
  layers: { mediaType: string; digest: unknown; size: unknown }[];
}

function manifestOf(files: FileMap): Manifest {
  const index = JSON.parse((files.get('index.json') as Buffer).toString());
  const digest = index.manifests[0].digest.slice('sha256:'.length);
  return JSON.parse((files.get(`blobs/sha256/${digest}`) as Buffer).toString());
}

function withManifest(files: FileMap, manifest: unknown): FileMap {
  const changed = new Map(files);
  const descriptor = addBlob(changed, 'application/vnd.oci.image.manifest.v1+json', json(manifest));
  changed.set('index.json', json({ manifests: [descriptor] }));
  return changed;
}

t.test('manifests that are refused', async (t) => {
  const files = ociLayout(['gzip'], { ...IMAGE, layers: [BASE] });
  const whole = manifestOf(files);
  const layer = whole.layers[0] as Manifest['layers'][0];
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
  const cases: [what: string, manifest: unknown, code: string, says: RegExp][] = [
    ['another schema', { ...whole, schemaVersion: 1 }, 'ARCHIVE', /schema/],
    [
      'no image',
      { ...whole, config: { ...whole.config, mediaType: 'application/json' } },
      'SOURCE',
      /not an image/,
    ],
    ['a foreign layer', { ...whole, layers: [{ ...layer, mediaType: foreign }] }, 'ARCHIVE', /foreign/],
    ['an unknown layer', { ...whole, layers: [{ ...layer, mediaType: 'x/y' }] }, 'ARCHIVE', /no layer/],
    ['fewer layers', { ...whole, layers: [] }, 'ARCHIVE', /names 0 layers/],
    [
      'a path as a digest',
      { ...whole, layers: [{ ...layer, digest: 'sha256:../../../etc/passwd' }] },
      'ARCHIVE',
      /digest/,
    ],
    [
      'another algorithm',
      { ...whole, layers: [{ ...layer, digest: `md5:${'0'.repeat(32)}` }] },
      'ARCHIVE',
      /digest/,
    ],
    ['a negative size', { ...whole, layers: [{ ...layer, size: -1 }] }, 'ARCHIVE', /size/],
    ['no layers', { ...whole, layers: 'none' }, 'ARCHIVE', /not a list/],
    [
      'thousands of layers',
      { ...whole, layers: Array.from({ length: 1000 }, () => layer) },
      'ARCHIVE',
      /more than/,
    ],
    ['a list', [], 'ARCHIVE', /not an object/],
  ];
  for (const [what, manifest, code, says] of cases) {
    const reference = put(withManifest(files, manifest));
    await t.rejects(read(reference), { code: `YAVM_E_IMAGE_${code}`, message: says }, what);
  }
  for (const [name, content] of [
    ['oci-layout', json({ imageLayoutVersion: '2.0.0' })],
    ['oci-layout', Buffer.from('{')],
    ['index.json', json({})],
    ['index.json', Buffer.from('\xff', 'latin1')],
    ['index.json', Buffer.alloc(5 * 1024 ** 2, ' ')],
    ['index.json', json({ manifests: [] })],
    [
      'index.json',
      json({ manifests: [{ mediaType: '__proto__', digest: `sha256:${'0'.repeat(64)}`, size: 1 }] }),
    ],
  ] as [string, Buffer][]) {
    const error = await read(`oci-archive:${put(new Map([...files, [name, content]]))}`).catch(toError);
    t.match(error, { code: /^YAVM_E_IMAGE_(ARCHIVE|SOURCE)$/ }, `${name}: ${content.subarray(0, 40)}`);
  }
});

t.test('docker’s manifests that are refused', async (t) => {
  const files = oldDockerSave({ ...IMAGE, layers: [BASE] });
  const [entry] = JSON.parse((files.get('manifest.json') as Buffer).toString());
  const cases: [what: string, manifest: unknown, says: RegExp][] = [
    ['a path that climbs', [{ ...entry, Layers: ['../../etc/passwd'] }], /contains '\.\.'/],
    ['an absolute path', [{ ...entry, Layers: ['/etc/passwd'] }], /is absolute/],
    ['an absolute configuration', [{ ...entry, Config: '/etc/passwd' }], /is absolute/],
    ['what is not there', [{ ...entry, Layers: ['x'] }], /has no x/],
    ['no path', [{ ...entry, Layers: ['./'] }], /no path/],
    ['more layers', [{ ...entry, Layers: [...entry.Layers, ...entry.Layers] }], /names 2 layers/],
    ['a number', [{ ...entry, Layers: [7] }], /not text/],
    ['no list', { Layers: [] }, /not a list/],
  ];
  for (const [what, manifest, says] of cases) {
    const reference = `docker-archive:${put(new Map([...files, ['manifest.json', json(manifest)]]))}`;
    await t.rejects(read(reference), { code: 'YAVM_E_IMAGE_ARCHIVE', message: says }, what);
  }
  const layer = entry.Layers[0] as string;
  for (const link of ['/etc/passwd', '../../../etc/passwd', layer.slice(layer.indexOf('/') + 1)]) {
    const reference = `docker-archive:${put(new Map([...files, [layer, { link }]]))}`;
    await t.rejects(
      read(reference),
      { code: 'YAVM_E_IMAGE_ARCHIVE', message: /leads out|too many links/ },
      link,
    );
  }
  const inside = put(new Map([...files, ['elsewhere.tar', BASE], [layer, { link: '../elsewhere.tar' }]]));
  t.same((await read(inside)).tars, [BASE], 'a link inside the archive');
});

t.test('nothing is left behind', async (t) => {
  const temp = join(folder, 'temp');
  mkdirSync(temp);
  const source = await openSource(put(gzipSync(archiveOf(oldDockerSave(IMAGE)))), { signal, temp });
  source.close();
  t.same(readdirSync(temp), []);
  const aborted = AbortSignal.abort(new Error('enough'));
  const reference = put(gzipSync(archiveOf(oldDockerSave(IMAGE))));
  await t.rejects(openSource(reference, { signal: aborted, temp: folder }), { message: 'enough' });
});
