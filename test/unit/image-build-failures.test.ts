/** Builds that fail, or are given up: a coded error, the output as it was, and nothing else left. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { startTimeOf } from '../../host/lib/process.ts';
import { archiveOf, ociLayout } from '../lib/container-archives.ts';
import { imageBuilds } from '../lib/image-builds.ts';
import { file, layerTar } from '../lib/layer-tar.ts';
import { paxHeader, rawTar } from '../lib/raw-tar.ts';

const { folder, output, put, build } = imageBuilds(t);
const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** A folder to pack. */
const root = join(folder, 'root');
mkdirSync(join(root, 'etc'), { recursive: true });
writeFileSync(join(root, 'etc', 'id'), 'x'.repeat(3_000_000));

/** Names in the folder of the output but for sources and the output. */
const leftovers = () =>
  readdirSync(folder).filter((name) => !/^(source-\d+\.tar|out\.gvmi|root|bin)$/.test(name));

t.test('what fails leaves the output as it was, and nothing else', async (t) => {
  const tar = put(layerTar([file('f', 'x')]));
  const { bytes } = await build(tar);
  const cut = put(layerTar([file('a', 'x'), file('big', Buffer.alloc(100_000))]).subarray(0, 5000));
  await t.rejects(build(cut), { code: 'YAVM_E_IMAGE_ARCHIVE' }, 'a source that is cut off');
  const holes = rawTar(paxHeader({ 'GNU.sparse.size': String(2 ** 50), 'GNU.sparse.map': '0,1' }), {
    name: 'f',
    content: 'x',
  });
  await t.rejects(
    build(put(holes)),
    { code: 'YAVM_E_IMAGE_ARCHIVE', message: /1024 TiB, more/ },
    'a petabyte of holes',
  );
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
  await t.rejects(build(tar, { output: folder }), { code: 'YAVM_E_IMAGE_BUILD', message: /is no file/ });
  await t.rejects(build(tar, { output: '/dev/null' }), { code: 'YAVM_E_IMAGE_BUILD', message: /is no file/ });
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
  const abort = new AbortController();
  const building = build(root, { signal: abort.signal, compressor: 'xz', level: undefined });
  setImmediate(() => {
    abort.abort(new Error('enough of a folder'));
  });
  await t.rejects(building, { message: 'enough of a folder' });
  t.same(leftovers(), []);
});

t.test(
  'a file that cannot be read is an error, not an empty file',
  { skip: process.getuid?.() === 0 && 'root reads everything' },
  async (t) => {
    chmodSync(join(root, 'etc', 'id'), 0);
    await t.rejects(build(root), { code: 'YAVM_E_IMAGE_BUILD', hint: /readable/ });
    t.same(leftovers(), []);
  },
);

t.test('what killed builders left goes, what others are building stays', async (t) => {
  const tar = put(layerTar([file('f', 'x')]));
  const own = startTimeOf(process.pid);
  const [dead, alive] = ['.out.gvmi.1-1-0123abcd.tmp', `.out.gvmi.${process.pid}-${own}-0123abcd.tmp`];
  for (const name of [dead, alive, '.other.gvmi.1-1-0123abcd.tmp']) writeFileSync(join(folder, name), '');
  await build(tar);
  t.same(leftovers().sort(), [alive, '.other.gvmi.1-1-0123abcd.tmp'].sort());
});

t.test('an output that is a link: what it leads to is replaced', async (t) => {
  const target = join(folder, 'out.gvmi');
  const link = join(folder, 'bin', 'link');
  symlinkSync(target, link);
  await build(put(layerTar([file('f', 'linked')])), { output: link });
  t.equal(readlinkSync(link), target);
  t.equal((await build(put(layerTar([file('f', 'linked')])))).bytes.length, readFileSync(target).length);
});
