/** The reader of tars: every form that tools write, what of it is kept byte for byte, and every kind of damage. */
import { mkdtempSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { tarOf } from '../../host/image/build/tar-writer.ts';
import { decodePax, encodePax } from '../../host/lib/tar/pax.ts';
import { contentBytes, flattenTars, indexOf, treeLines } from '../lib/flatten.ts';
import { directory, file, hardlink, layerTar, symlink } from '../lib/layer-tar.ts';
import { gnuLong, paxHeader, rawTar, tarEntry } from '../lib/raw-tar.ts';
import { systemTar } from '../lib/tar.ts';

const HOLES = 3 * 1024 * 1024;

t.test('what the system’s tar writes, in each of its forms', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-tar-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const long = `${'n'.repeat(150)}/${'m'.repeat(140)}`;
  writeFileSync(join(folder, 'short'), 'short\n', { mode: 0o640 });
  utimesSync(join(folder, 'short'), 1_500_000_000, 1_500_000_000.75);
  writeFileSync(join(folder, 'sparse'), 'begin');
  truncateSync(join(folder, 'sparse'), HOLES);
  writeFileSync(join(folder, 'sparse'), 'middle', { flag: 'r+' });
  const owner = ['--owner=3', '--group=4', '--no-recursion'];
  const forms: [name: string, words: string[], long: boolean][] = [
    ['v7', ['--format=v7'], false],
    ['ustar', ['--format=ustar'], false],
    ['oldgnu', ['--format=oldgnu', '-S'], true],
    ['gnu', ['--format=gnu', '-S'], true],
    ['pax', ['--format=pax'], true],
    ['pax 0.0', ['--format=pax', '-S', '--sparse-version=0.0'], true],
    ['pax 0.1', ['--format=pax', '-S', '--sparse-version=0.1'], true],
    ['pax 1.0', ['--format=pax', '-S', '--sparse-version=1.0'], true],
  ];
  for (const [name, words, takesLong] of forms) {
    const names = ['short', 'sparse', '.'];
    const renamed = takesLong ? ['--transform', `s,^short$,${long},`] : [];
    const tar = systemTar([...words, ...owner, ...renamed, '-C', folder, '-cf', '-', ...names]);
    const entries = await indexOf(tar);
    const [short, sparse, dot] = entries;
    t.match(
      short,
      { name: takesLong ? long : 'short', type: 'file', mode: 0o640, uid: 3, gid: 4, mtime: 1_500_000_000 },
      name,
    );
    t.equal(contentBytes(short?.content ?? null).toString(), 'short\n', name);
    const bytes = contentBytes(sparse?.content ?? null);
    t.equal(bytes.length, HOLES, `${name}: size of the file with holes`);
    t.equal(bytes.toString('latin1', 0, 6), 'middle');
    t.ok(bytes.subarray(6).every((byte) => byte === 0));
    if (words.includes('-S')) t.ok(sparse?.content?.segments, `${name}: the holes are known`);
    t.match(dot, { type: 'directory' });
    t.equal(entries.length, 3);
  }
});

t.test('a file with holes is written with them, and read again', async (t) => {
  const map = '2\n0\n5\n1048576\n3\n';
  const sparse = (size: number, content: string) => [
    paxHeader({
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.name': 'holes',
      'GNU.sparse.realsize': String(size),
    }),
    { name: 'GNUSparseFile.1/holes', content },
  ];
  const tar = rawTar(...sparse(2 ** 21, `${map.padEnd(512, '\0')}AAAAABBB`));
  const tree = await flattenTars([tar]);
  const written = Buffer.concat([...tarOf(tree)]);
  t.ok(written.length < 8192, 'no zeros were written');
  const [entry] = await indexOf(written);
  t.same(entry?.content?.segments?.slice(0, 2), [
    { at: 0, size: 5 },
    { at: 2 ** 20, size: 3 },
  ]);
  const bytes = contentBytes(entry?.content ?? null);
  t.equal(bytes.length, 2 ** 21);
  t.equal(bytes.toString('latin1', 2 ** 20, 2 ** 20 + 4), 'BBB\0');
  for (const [what, bad] of [
    ['overlap', '2\n0\n5\n4\n4\n'],
    ['outside', '2\n0\n5\n2097150\n4\n'],
    ['not what is there', '1\n0\n4\n'],
    ['an odd number', '1\n0\n'],
    ['a negative one', '1\n-1\n4\n'],
    ['no number', 'x\n'],
    ['too many', `${10 ** 9}\n`],
    ['no line', '1'.repeat(2000)],
  ] as const) {
    const damaged = rawTar(...sparse(2 ** 21, `${bad.padEnd(512, '\0')}AAAAABBB`));
    await t.rejects(indexOf(damaged), { code: 'YAVM_E_IMAGE_ARCHIVE' }, what);
  }
});

t.test('names and attributes are bytes', async (t) => {
  const name = 'new\nline, space \xff\xfe\\ "quote"';
  const value = Buffer.from([0, 1, 10, 61, 255]).toString('latin1');
  const long = `${'\xe4'.repeat(120)}/x`;
  for (const form of ['pax', 'gnu'] as const) {
    const tar = layerTar(
      [
        file(name, 'x', { xattrs: { 'security.capability': value, 'user.empty': '', 'user.a=b': '1' } }),
        hardlink(long, long.slice(0, 121)),
        symlink('l', long),
      ],
      form,
    );
    const [first, second, third] = await indexOf(tar);
    t.equal(first?.name, name);
    t.same(first?.xattrs?.get('security.capability'), Buffer.from([0, 1, 10, 61, 255]));
    t.same(first?.xattrs?.get('user.empty'), Buffer.alloc(0));
    t.equal(second?.name, long);
    t.equal(second?.linkName, long.slice(0, 121));
    t.equal(third?.linkName, long);
  }
  const [entry] = await indexOf(
    rawTar(
      paxHeader({
        'LIBARCHIVE.xattr.user.one%20two': 'AAEC',
        'LIBARCHIVE.xattr.user.b': 'eA==',
        'SCHILY.xattr.user.b': 'y',
      }),
      { name: 'f' },
    ),
  );
  t.same(entry?.xattrs?.get('user.one two'), Buffer.from([0, 1, 2]));
  t.same(entry?.xattrs?.get('user.b'), Buffer.from('y'), 'the raw form counts');
});

t.test('numbers', async (t) => {
  const base256 = (value: bigint, length: number) =>
    Buffer.from(
      (value | (1n << BigInt(length * 8 - 1))).toString(16).padStart(length * 2, '0'),
      'hex',
    ).toString('latin1');
  const [entry] = await indexOf(
    rawTar({
      name: 'f',
      over: [
        [108, base256(3_000_000_000n, 8)],
        [136, base256(2n ** 31n, 12)],
      ],
    }),
  );
  t.match(entry, { uid: 3_000_000_000, mtime: 2 ** 31 });
  const [before] = await indexOf(rawTar({ name: 'f', over: [[136, '\xff'.repeat(12)]] }));
  t.equal(before?.mtime, 0, 'before the epoch');
  const [pax] = await indexOf(
    rawTar(paxHeader({ mtime: '-3.5', uid: '4000000000', gid: '7' }), { name: 'f' }),
  );
  t.match(pax, { mtime: 0, uid: 4_000_000_000, gid: 7 });
  const [blank] = await indexOf(
    rawTar({
      name: 'f',
      over: [
        [108, ' '.repeat(8)],
        [116, '\0'.repeat(8)],
      ],
    }),
  );
  t.match(blank, { uid: 0, gid: 0 });
  for (const over of [
    [108, '9999999\0'],
    [124, '-0000000001\0'],
    [124, '\xff'.repeat(12)],
    [124, `\x80${'\xff'.repeat(11)}`],
    [108, '\xff'.repeat(8)],
  ] as [number, string][]) {
    await t.rejects(
      indexOf(rawTar({ name: 'f', over: [over] })),
      { code: 'YAVM_E_IMAGE_ARCHIVE' },
      JSON.stringify(over),
    );
  }
  await t.rejects(indexOf(rawTar(paxHeader({ uid: '4294967295' }), { name: 'f' })), {
    code: 'YAVM_E_IMAGE_ARCHIVE',
  });
});

t.test('headers about the next entry', async (t) => {
  const [first, second] = await indexOf(
    rawTar(paxHeader({ comment: 'x', uid: '5' }, 'g'), { name: 'a' }, paxHeader({ uid: '6' }), { name: 'b' }),
  );
  t.match([first, second], [{ uid: 5 }, { uid: 6 }], 'a global one, and one of its own');
  const [label] = await indexOf(rawTar({ name: 'label', flag: 'V' }, { name: 'f' }));
  t.equal(label?.name, 'f', 'the label of the archive is no entry');
  const [old] = await indexOf(rawTar({ name: 'dir/', flag: '\0' }));
  t.match(old, { type: 'directory', name: 'dir/' });
  const refused: [string, Buffer][] = [
    ['an unknown type', rawTar({ name: 'f', flag: 'Z' })],
    ['nothing behind it', rawTar(paxHeader({ path: 'x' }))],
    ['too many', rawTar(...Array.from({ length: 20 }, () => gnuLong('x')), { name: 'f' })],
    ['too long', rawTar({ name: 'pax', flag: 'x', content: 'x', size: 2 ** 30 })],
    ['a damaged record', rawTar({ name: 'pax', flag: 'x', content: '99 path=x\n' }, { name: 'f' })],
    ['a record without a newline', rawTar({ name: 'pax', flag: 'x', content: '9 path=xx' }, { name: 'f' })],
    ['a record without =', rawTar({ name: 'pax', flag: 'x', content: '7 path\n' }, { name: 'f' })],
  ];
  for (const [what, tar] of refused) await t.rejects(indexOf(tar), { code: 'YAVM_E_IMAGE_ARCHIVE' }, what);
});

t.test('cut off anywhere', async (t) => {
  const whole = layerTar([
    directory('d'),
    file('d/f', 'x'.repeat(1500)),
    file('g', 'y', { xattrs: { 'user.a': 'b' } }),
  ]);
  // Up to the end mark's first block, which is enough.
  for (let length = 0; length < whole.length - 512; length += 256) {
    const cut = indexOf(whole.subarray(0, length));
    await t.rejects(
      cut,
      { code: 'YAVM_E_IMAGE_ARCHIVE', message: /^tar: (at byte|ends)/ },
      `${length} bytes`,
    );
  }
  t.equal((await indexOf(whole.subarray(0, whole.length - 512))).length, 3);
  t.equal(
    (await indexOf(whole.subarray(0, whole.length - 1024), false)).length,
    3,
    'where the end mark may be missing',
  );
  await t.rejects(indexOf(whole.subarray(0, whole.length - 1024 - 512), false), {
    code: 'YAVM_E_IMAGE_ARCHIVE',
  });
  const flipped = Buffer.from(whole);
  flipped[3] = 1;
  await t.rejects(indexOf(flipped), { message: /wrong checksum/ });
  const signed = tarEntry({ name: '\xff\xff', content: '' });
  const sum = [...signed].reduce(
    (total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte < 128 ? byte : byte - 256),
    0,
  );
  signed.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  t.equal(
    (await indexOf(Buffer.concat([signed, Buffer.alloc(1024)])))[0]?.name,
    '\xff\xff',
    'the sum of signed bytes',
  );
});

t.test('what is written is what was read, in the order of names', async (t) => {
  const items = [
    file('z', 'last'),
    directory('a'),
    file('a/\xff', 'high'),
    file('a/b', 'low', { mode: 0o4755, uid: 2 ** 31, xattrs: { 'user.b': '2', 'user.a': '1\0' } }),
    hardlink('a/0', 'a/b'),
    symlink('a-', 'x'.repeat(300)),
    file(`d/${'n'.repeat(200)}`, 'long'),
    file('big', Buffer.alloc(3 * 2 ** 20, 'pattern ')),
  ];
  const tree = await flattenTars([layerTar(items)]);
  const tar = Buffer.concat([...tarOf(tree)]);
  t.same(treeLines(await flattenTars([tar])), treeLines(tree));
  const names = (await indexOf(tar)).map(({ name }) => name);
  t.same(names, ['a', 'a/0', 'a/b', 'a/\xff', 'a-', 'big', 'd', `d/${'n'.repeat(200)}`, 'z']);
  t.ok(systemTar(['-tf', '-'], tar).includes('a/b'), 'and tar reads it');
});

t.test('a pax record counts its own digits', async (t) => {
  for (const length of [0, 1, 2, 3, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993, 994, 9990]) {
    const value = 'v'.repeat(length);
    const record = encodePax([['k', value]]);
    t.same(decodePax(record, 0), [['k', value]], `${length} bytes`);
    t.match(record.toString(), new RegExp(`^${record.length} k=`));
  }
});
