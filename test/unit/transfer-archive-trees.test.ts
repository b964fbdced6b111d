/** Real trees through every format: packed by us and unpacked by the programs of others, and the reverse. */
import {
  chmodSync,
  chownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ARCHIVE_FORMATS, type ArchiveFormat } from '../../host/transfer/archive/index.ts';
import { isThere, pack, run, unpack } from '../lib/archives.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import { listTree } from '../lib/tree.ts';

const top = mkdtempSync(join(tmpdir(), 'yavm-archives-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const isRoot = process.getuid?.() === 0;

const NAMES = [
  'plain',
  'with space',
  ' leading',
  'new\nline',
  '-dash',
  '--dash=dash',
  'ünï€😀日本',
  '*?[x]{y}',
  'quote\'"`$',
  '.hidden',
  '...',
  'a'.repeat(255),
  'ä'.repeat(127),
];

/** Everything that goes through an archive. `zip`: what a zip can hold, too. */
function makeTree(root: string, zip: boolean): void {
  mkdirSync(root);
  for (const name of NAMES) writeFileSync(join(root, name), random.bytes(random.between(0, 2000)));
  mkdirSync(join(root, 'empty'));
  writeFileSync(join(root, 'nothing'), '');
  const deep = join(root, ...Array.from({ length: 40 }, (_, index) => `l${index}`));
  mkdirSync(deep, { recursive: true });
  writeFileSync(join(deep, 'file'), 'far down');
  writeFileSync(join(root, 'large'), Buffer.concat([random.bytes(300_001), Buffer.alloc(200_003)]));
  for (const [index, size] of [511, 512, 513, 32_767, 32_768, 32_769, 65_536, 262_145].entries()) {
    writeFileSync(join(root, `size-${index}`), random.bytes(size));
  }
  linkSync(join(root, 'large'), join(root, 'second name'));
  linkSync(join(root, 'plain'), join(root, 'l0', 'plain too'));
  linkSync(join(root, 'nothing'), join(root, 'nothing too'));
  symlinkSync('plain', join(root, 'link'));
  symlinkSync('../../plain', join(root, 'l0', 'l1', 'up'));
  symlinkSync('nowhere/at all', join(root, 'dangling'));
  symlinkSync('ä'.repeat(100), join(root, 'link to ä'));
  symlinkSync('.', join(root, 'self'));
  linkSync(join(root, 'link'), join(root, 'link too'));
  for (const [index, mode] of [0o600, 0o444, 0o755, 0o4755, 0o2711, 0o1777, 0].entries()) {
    writeFileSync(join(root, `mode-${index}`), 'x');
    if (isRoot) chownSync(join(root, `mode-${index}`), 1000 + index, zip ? 7 : 3_000_000_000);
    chmodSync(join(root, `mode-${index}`), mode);
  }
  if (!zip) {
    writeFileSync(join(root, 'old'), 'x');
    lutimesSync(join(root, 'old'), -1_000_000, -1_000_000);
    writeFileSync(join(root, 'future'), 'x');
    lutimesSync(join(root, 'future'), 9_000_000_000, 9_000_000_000);
  }
  lutimesSync(join(root, 'plain'), 1_000_000_000, 1_000_000_001);
  lutimesSync(join(root, 'link'), 1_100_000_000, 1_100_000_001);
  chmodSync(join(root, 'empty'), 0o700);
  lutimesSync(join(root, 'empty'), 1_200_000_000, 1_200_000_001);
}

makeTree(join(top, 'tree'), false);
makeTree(join(top, 'ziptree'), true);
const treeOf = (format: ArchiveFormat) => join(top, format.startsWith('zip') ? 'ziptree' : 'tree');

/** As a zip keeps it: of hard links only the content, and no times of directories and links, which programs set or do not. */
function comparable(root: string, format: ArchiveFormat): string[] {
  if (!format.startsWith('zip')) return listTree(root);
  return listTree(root, { times: 'not-directories' }).map((line) =>
    line.replace(/ = .*$/s, '').replace(/ @\d+ link /, ' link '),
  );
}

let folders = 0;
function folder(): string {
  const path = join(top, `out-${folders++}`);
  mkdirSync(path);
  return path;
}

const guestTar = (root: string, format = 'posix') =>
  run('tar', ['-C', root, `--format=${format}`, '-cf', '-', '.']);
const extract = (tar: Uint8Array, ...more: string[]): string => {
  const into = folder();
  run('tar', ['-C', into, '-xpf', '-', ...more], { input: tar });
  return into;
};

const COMPRESSORS: Partial<Record<ArchiveFormat, string>> = {
  'tar.gz': 'gzip',
  'tar.bz2': 'bzip2',
  'tar.xz': 'xz',
  'tar.zst': 'zstd',
};

/** The program of others that a format needs beside tar. */
const programFor = (format: ArchiveFormat) => COMPRESSORS[format] ?? (format === 'tar' ? 'tar' : 'unzip');
const without = (program: string) => ({ skip: isThere(program) ? false : `no ${program} here` });

/** Unpacks by the programs of the distribution. */
function byOthers(archive: Buffer, format: ArchiveFormat): string {
  if (format === 'tar') return extract(archive);
  const compressor = COMPRESSORS[format];
  if (compressor) return extract(run(compressor, ['-dc'], { input: archive }));
  const file = join(top, 'archive.zip');
  writeFileSync(file, archive);
  const into = folder();
  run('unzip', ['-qK^', isRoot ? '-X' : '-K', file, '-d', into]);
  return into;
}

for (const format of ARCHIVE_FORMATS) {
  t.test(`${format}: packed by us`, without(programFor(format)), async (t) => {
    const root = treeOf(format);
    for (const kind of ['posix', 'gnu']) {
      const archive = await pack(guestTar(root, kind), { format });
      const unpacked = byOthers(archive, format);
      t.same(comparable(unpacked, format), comparable(root, format), `the guest's tar as ${kind}`);
    }
  });

  t.test(`${format}: packed and unpacked by us`, async (t) => {
    const root = treeOf(format);
    for (const size of [1 << 20, 997]) {
      const archive = await pack(guestTar(root), { format }, size);
      const unpacked = extract(await unpack(archive, { format }, size));
      t.same(comparable(unpacked, format), comparable(root, format), `in pieces of ${size} bytes`);
    }
  });

  const compressor = COMPRESSORS[format];
  if (!compressor && format !== 'tar') continue;
  t.test(`${format}: packed by others`, without(programFor(format)), async (t) => {
    for (const kind of ['posix', 'gnu', 'pax --xattrs']) {
      const [name, ...more] = kind.split(' ');
      const root = treeOf(format);
      const tar = run('tar', [
        '-C',
        root,
        `--format=${name}`,
        ...more,
        '-cf',
        '-',
        ...readdirSync(root).map((file) => `./${file}`),
      ]);
      const archive = compressor ? run(compressor, ['-c'], { input: tar }) : tar;
      const unpacked = extract(await unpack(archive, { format }));
      t.same(comparable(unpacked, format), comparable(root, format), kind);
    }
  });
}

t.test('tar: what older formats can hold', async (t) => {
  const root = folder();
  mkdirSync(join(root, 'd'));
  writeFileSync(join(root, 'd', 'x'.repeat(90)), 'x');
  symlinkSync('d', join(root, 'l'));
  for (const kind of ['v7', 'ustar', 'oldgnu']) {
    const unpacked = extract(await unpack(guestTar(root, kind), { format: 'tar' }));
    t.same(listTree(unpacked), listTree(root), kind);
  }
});

t.test('tar: names that are no UTF-8, and attributes', async (t) => {
  const root = folder();
  const raw = Buffer.concat([
    Buffer.from(`${root}/`),
    Buffer.from([0x66, 0xff, 0xfe]),
    Buffer.from('x'.repeat(120)),
  ]);
  writeFileSync(raw, 'content');
  symlinkSync(Buffer.from([0x80, 0x81]), join(root, 'link'));
  for (const kind of ['posix', 'gnu']) {
    const tar = await unpack(await pack(guestTar(root, kind), { format: 'tar.gz' }), { format: 'tar.gz' });
    const unpacked = extract(tar);
    t.same(readdirSync(unpacked, 'buffer').sort(), readdirSync(root, 'buffer').sort(), kind);
  }
  await t.rejects(pack(guestTar(root), { format: 'zip' }), {
    code: 'YAVM_E_ARCHIVE',
    message: /is not UTF-8/,
  });
});

t.test('zip: packed by others', without('zip'), async (t) => {
  const file = join(top, 'other.zip');
  const root = treeOf('zip');
  const tries: [what: string, make: () => void][] = [
    ['zip', () => run('zip', ['-qry', file, '.'], { cwd: root })],
    ['zip, stored', () => run('zip', ['-qry0', file, '.'], { cwd: root })],
  ];
  for (const [what, make] of tries) {
    rmSync(file, { force: true });
    make();
    const unpacked = extract(await unpack(readFileSync(file), { format: 'zip' }));
    t.same(comparable(unpacked, 'zip'), comparable(root, 'zip'), what);
  }
});

const PYTHON = `
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)
z.writestr('d/', b'')
z.writestr('d/small', b'x')
z.writestr('d/large', b'0123456789' * 300000)
z.writestr('stored', b'abc', zipfile.ZIP_STORED)
with z.open(zipfile.ZipInfo('streamed \\u00e4'), 'w', force_zip64=True) as f: f.write(b'y' * 100000)
z.comment = b'a comment'
z.close()
`;

t.test("zip: Python's", without('python3'), async (t) => {
  const file = join(top, 'python.zip');
  run('python3', ['-c', PYTHON, file]);
  const unpacked = extract(await unpack(readFileSync(file), { format: 'zip' }));
  t.same(readdirSync(unpacked).sort(), ['d', 'stored', 'streamed ä']);
  t.equal(readFileSync(join(unpacked, 'd/large'), 'latin1'), '0123456789'.repeat(300_000));
  t.equal(readFileSync(join(unpacked, 'streamed ä'), 'latin1'), 'y'.repeat(100_000));
  for (const format of ['zip', 'zip.0'] as const) {
    const ours = join(top, 'ours.zip');
    writeFileSync(ours, await pack(guestTar(treeOf('zip')), { format }));
    run('python3', [
      '-c',
      'import sys, zipfile; assert zipfile.ZipFile(sys.argv[1]).testzip() is None',
      ours,
    ]);
    const names = run('python3', ['-m', 'zipfile', '-l', ours]).toString().split('\n').length;
    t.ok(names > NAMES.length, `${format} is right to Python`);
  }
});

t.test('many small files', async (t) => {
  const root = folder();
  const files = count(10_000);
  for (let index = 0; index < files; index++) {
    if (index % 100 === 0) mkdirSync(join(root, `d${index / 100}`));
    writeFileSync(
      join(root, `d${Math.floor(index / 100)}`, `file-${index}`),
      random.bytes(random.between(0, 6000)),
    );
  }
  const expected = listTree(root, { times: 'not-directories' });
  const tar = guestTar(root);
  for (const format of ARCHIVE_FORMATS) {
    const archive = await pack(tar, { format });
    const unpacked = extract(await unpack(archive, { format }));
    t.same(listTree(unpacked, { times: 'not-directories' }), expected, `${format}: ${files} files`);
    rmSync(unpacked, { recursive: true });
  }
});

t.test('several compressed members are one archive', async (t) => {
  const root = treeOf('tar.gz');
  const tar = guestTar(root);
  const middle = Math.floor(tar.byteLength / 3);
  for (const [format, compressor] of Object.entries(COMPRESSORS)) {
    if (!isThere(compressor)) continue;
    const parts = [tar.subarray(0, middle), tar.subarray(middle)];
    const archive = Buffer.concat(parts.map((input) => run(compressor, ['-c'], { input })));
    for (const size of [1 << 20, 1000]) {
      const unpacked = await unpack(archive, { format: format as ArchiveFormat }, size);
      t.same(listTree(extract(unpacked)), listTree(root), `${format} in pieces of ${size} bytes`);
    }
  }
});
