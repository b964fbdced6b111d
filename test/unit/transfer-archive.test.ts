/** What a script says about archives: formats, sets of files, patterns, depth; and what a choice makes of an archive. */
import picomatch from 'picomatch';
import t from 'tap';
import { compileGlob } from '../../host/transfer/archive/glob.ts';
import {
  ARCHIVE_FORMATS,
  type Fileset,
  parseArchiveFormat,
  parseFileset,
} from '../../host/transfer/archive/index.ts';
import { pack, run, unpack } from '../lib/archives.ts';
import { Random } from '../lib/random.ts';
import { type RawHeader, rawTar } from '../lib/raw-tar.ts';
import { count } from '../lib/scale.ts';

t.test('formats', async (t) => {
  for (const format of ['tar', 'tar.gz', 'tar.bz2', 'tar.xz', 'tar.zst', 'zip', 'zip.0']) {
    t.equal(parseArchiveFormat(format), format);
  }
  t.equal(ARCHIVE_FORMATS.length, 7);
  for (const wrong of ['', 'TAR', 'tgz', 'zip.1', 'toString', '__proto__', `x${'y'.repeat(9999)}`]) {
    t.throws(
      () => parseArchiveFormat(wrong),
      { code: 'YAVM_E_TRANSFER_FORMAT', hint: /tar, tar.gz, .*zip.0/ },
      wrong.slice(0, 20),
    );
  }
  t.throws(
    () => parseArchiveFormat(`x${'y'.repeat(9999)}`),
    { message: /^.{1,200}$/ },
    'what is said is not long',
  );
});

t.test('sets of files, in every spelling', async (t) => {
  const all = { includes: ['**/*'], excludes: [] };
  const spellings: [value: unknown, fileset: Fileset][] = [
    [undefined, [all]],
    [null, [all]],
    [{}, [all]],
    ['*.txt', [{ includes: ['*.txt'], excludes: [] }]],
    [['a', 'b'], [{ includes: ['a', 'b'], excludes: [] }]],
    [{ includes: 'a' }, [{ includes: ['a'], excludes: [] }]],
    [{ includes: ['a', 'b'], excludes: 'c' }, [{ includes: ['a', 'b'], excludes: ['c'] }]],
    [{ desc: 'why', excludes: ['c'] }, [{ ...all, excludes: ['c'], description: 'why' }]],
    [{ desc: null, includes: null, excludes: null, more: 1 }, [all]],
    [
      [{ includes: 'a' }, { excludes: 'b' }],
      [
        { includes: ['a'], excludes: [] },
        { ...all, excludes: ['b'] },
      ],
    ],
    [Array(1024).fill('a/b'), [{ includes: Array(1024).fill('a/b'), excludes: [] }]],
    [{ includes: [] }, [{ includes: [], excludes: [] }]],
  ];
  for (const [value, fileset] of spellings) {
    t.same(parseFileset(value), fileset, String(JSON.stringify(value)).slice(0, 80));
  }
  const wrong: unknown[] = [
    ...[1, true, 1n, '', [], [1], [['a']], ['a', {}], [{}, 'a'], new Uint8Array(3)],
    ...[{ includes: 1 }, { includes: [''] }, { excludes: {} }, { desc: 1 }, { desc: 'x'.repeat(5000) }],
    ...['a\0', 'a'.repeat(513), Array(1025).fill('a'), Array(200).fill('a'.repeat(500)), Array(65).fill({})],
    Array(9).fill('*'.repeat(300)),
    [{ includes: Array(600).fill('a') }, { excludes: Array(600).fill('a') }],
  ];
  for (const value of wrong) {
    const shown = String(
      JSON.stringify(value, (_, item) => (typeof item === 'bigint' ? String(item) : item)),
    );
    t.throws(
      () => parseFileset(value),
      { code: 'YAVM_E_TRANSFER_FORMAT', message: /fileset/ },
      shown.slice(0, 60),
    );
  }
});

t.test('patterns', async (t) => {
  const rows: [pattern: string, yes: string[], no: string[]][] = [
    ['**/*', ['a', 'a/b', '.a/.b'], []],
    ['*', ['a', '.a', 'a b\n'], ['a/b']],
    ['*.txt', ['a.txt', '.txt', 'ä.txt'], ['a/b.txt', 'a.txt.gz']],
    ['**/*.txt', ['a.txt', 'a/b.txt', 'a/b/c.txt'], ['a.txt/b']],
    ['a/**', ['a/b', 'a/b/c'], ['a', 'ab', 'b/a/c']],
    ['a/', ['a/b', 'a/b/c'], ['a']],
    ['a/**/b', ['a/b', 'a/x/b', 'a/x/y/b'], ['ab', 'a/xb', 'a/b/c']],
    ['**/a/**', ['a/b', 'x/a/b'], ['a', 'x/a']],
    ['a**b', ['ab', 'axb'], ['a/b', 'ax/xb']],
    ['a?c', ['abc', 'a😀c'], ['ac', 'abbc', 'a/c']],
    ['[a-c]x', ['ax', 'cx'], ['dx', '/x', 'x']],
    ['[!a-c]x', ['dx'], ['ax', '/x']],
    ['[]-]x', [']x', '-x'], ['ax']],
    ['[a-]', ['a', '-'], ['b']],
    ['{a,b*,c/d}.x', ['a.x', 'bbb.x', 'c/d.x'], ['d.x', 'a,b.x']],
    ['{,a}b', ['b', 'ab'], ['aab']],
    ['{a,{b,c}}', ['a', 'b', 'c'], ['bc']],
    ['{**/a,b/**}', ['a', 'x/a', 'b/x'], ['b']],
    ['a\\*b', ['a*b'], ['axb']],
    ['\\[x', ['[x'], ['x']],
    ['./a/*', ['a/b'], ['./a/b']],
    ['/a', ['a'], ['b/a']],
    ['a,b}', ['a,b}'], ['a']],
    ['a/b.c', ['a/b.c'], ['a/b', 'a/b.c/d', 'a/bxc']],
    ['**', ['a', 'a/b'], []],
    ['(a|b)+', ['(a|b)+'], ['a']],
  ];
  for (const [pattern, yes, no] of rows) {
    const glob = compileGlob(pattern);
    for (const path of yes) t.ok(glob.matches(path), `${pattern} has ${JSON.stringify(path)}`);
    for (const path of no) t.notOk(glob.matches(path), `${pattern} does not have ${JSON.stringify(path)}`);
  }
  t.ok(compileGlob('**/node_modules').covers('a/node_modules/b/c'), 'what lies in a directory is covered');
  t.notOk(compileGlob('**/node_modules').covers('a/node_modulesb/c'));
  t.ok(compileGlob('a/b').covers('a/b/c') && compileGlob('a/b').covers('a/b'));
  t.notOk(compileGlob('a/b').covers('a/bc'));
  for (const wrong of ['[a', '[', '{a', 'a{b,{c}', '{'.repeat(17) + '}'.repeat(17)]) {
    t.throws(() => compileGlob(wrong), { code: 'YAVM_E_TRANSFER_FORMAT' }, wrong);
  }
});

t.test('patterns mean what they mean to others', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed} (YAVM_SEED)`);
  const words = (parts: readonly string[], most: number) =>
    Array.from({ length: random.between(1, most) }, () => random.pick(parts)).join('');
  let matched = 0;
  const different: string[] = [];
  for (let round = count(20_000); round > 0; round--) {
    const pattern = words(['a', 'b', '.', '*', '?', '[ab]', '{a,b}'], 5);
    const path = words(['a', 'b', '.', 'ab'], 5);
    const full = random.chance(2) ? `${random.pick(['**/', 'b/**/', 'a/'])}${pattern}` : pattern;
    const deep = random.chance(2) ? `${random.pick(['a/', 'b/', 'b/b/', 'b/a/b/'])}${path}` : path;
    // Names of dots alone are no names; runs of stars mean something else to picomatch.
    if (/(^|\/)\.*(\/|$)/.test(deep) || pattern.includes('**')) continue;
    const expected = picomatch(full, { dot: true, strictSlashes: true, fastpaths: false })(deep);
    if (expected) matched++;
    if (compileGlob(full).matches(deep) !== expected) different.push(`${full} ${deep}`);
  }
  t.same(different.slice(0, 5), []);
  t.ok(matched > 10, `${matched} matched`);
});

t.test('no pattern keeps us busy', async (t) => {
  // As a regular expression, 6 stars and 255 characters take hours.
  t.notOk(compileGlob(`${'*a'.repeat(400)}b`).matches('a'.repeat(4000)));
  t.notOk(compileGlob(`${'**/'.repeat(300)}b`).matches('a/'.repeat(2000)));
  t.notOk(compileGlob(`${'{a,*}'.repeat(200)}b`).matches('a'.repeat(4000)));
});

const tree: RawHeader[] = [
  { name: './', flag: '5' },
  { name: './a.txt', content: 'a' },
  { name: './d/', flag: '5', mode: 0o700 },
  { name: './d/b.txt', content: 'b' },
  { name: './d/e/', flag: '5' },
  { name: './d/e/c.png', content: 'c' },
  { name: './d/e/deep/', flag: '5' },
  { name: './d/e/deep/d.txt', content: 'd' },
  { name: './empty/', flag: '5' },
  { name: './node_modules/', flag: '5' },
  { name: './node_modules/x.txt', content: 'x' },
];
const listed = (tar: Buffer) =>
  run('tar', ['-tf', '-'], { input: tar }).toString().trim().split('\n').filter(Boolean);

t.test('which files go along', async (t) => {
  const everything = tree.slice(1).map(({ name }) => name.slice(2));
  const rows: [what: string, options: { depth?: number; fileset?: unknown }, names: string[]][] = [
    ['all', {}, everything],
    ['all, said', { fileset: '**/*' }, everything],
    ['depth 0', { depth: 0 }, ['a.txt', 'd/', 'empty/', 'node_modules/']],
    [
      'depth 1',
      { depth: 1 },
      ['a.txt', 'd/', 'd/b.txt', 'd/e/', 'empty/', 'node_modules/', 'node_modules/x.txt'],
    ],
    ['depth 9', { depth: 9 }, everything],
    ['a huge depth', { depth: Number.MAX_SAFE_INTEGER }, everything],
    ['names at the top', { fileset: '*.txt' }, ['a.txt']],
    ['with the directories that they lie in', { fileset: '**/*.png' }, ['d/', 'd/e/', 'd/e/c.png']],
    ['a directory', { fileset: 'd/e/' }, ['d/', 'd/e/', 'd/e/c.png', 'd/e/deep/', 'd/e/deep/d.txt']],
    ['several', { fileset: ['a.txt', 'd/b.txt'] }, ['a.txt', 'd/', 'd/b.txt']],
    ['without a directory', { fileset: { excludes: ['d', '**/node_modules'] } }, ['a.txt', 'empty/']],
    ['excludes win', { fileset: { includes: 'a.txt', excludes: '*.txt' } }, []],
    ['two sets', { fileset: [{ includes: 'a.txt' }, { includes: 'd/*.txt' }] }, ['a.txt', 'd/', 'd/b.txt']],
    [
      'a set each with depth',
      { depth: 1, fileset: '**/*.txt' },
      ['a.txt', 'd/', 'd/b.txt', 'node_modules/', 'node_modules/x.txt'],
    ],
    ['nothing', { fileset: { includes: [] } }, []],
  ];
  for (const [what, { depth, fileset }, names] of rows) {
    const options = { format: 'tar', depth, fileset: parseFileset(fileset) } as const;
    t.same(listed(await pack(rawTar(...tree), options)), names, `packed: ${what}`);
    t.same(listed(await unpack(rawTar(...tree), options)), names, `unpacked: ${what}`);
  }
});

t.test('a directory that comes after what is in it', async (t) => {
  const late = rawTar({ name: 'd/x' }, { name: 'd/', flag: '5' }, { name: 'e/', flag: '5' });
  t.same(listed(await unpack(late, { format: 'tar', fileset: parseFileset('d/x') })), ['d/x', 'd/']);
});

t.test('a hard link without its file is an error', async (t) => {
  const links = rawTar({ name: 'a', content: 'x' }, { name: 'b', flag: '1', link: 'a' });
  const options = (fileset: unknown) => ({ format: 'tar', fileset: parseFileset(fileset) }) as const;
  await t.rejects(pack(links, options('b')), {
    code: 'YAVM_E_ARCHIVE',
    message: /'b' is the same file as 'a'/,
  });
  t.same(listed(await pack(links, options(['a', 'b']))), ['a', 'b']);
  t.same(listed(await pack(links, options('a'))), ['a']);
});

t.test('what is left out is not looked at', async (t) => {
  const system = rawTar(
    { name: 'dev/null', flag: '3' },
    { name: 'bin', flag: '2', link: '/usr/bin' },
    { name: 'a' },
  );
  const fileset = parseFileset({ excludes: ['dev', 'bin'] });
  t.same(listed(await unpack(system, { format: 'tar', fileset })), ['a']);
  await t.rejects(unpack(system, { format: 'tar' }), { code: 'YAVM_E_ARCHIVE', hint: /excludes/ });
});

t.test('the directory by its own name', async (t) => {
  const named = rawTar(
    { name: 'work/', flag: '5' },
    { name: 'work/a', content: 'x' },
    { name: 'work/l', flag: '2', link: '/etc' },
    { name: 'work/h', flag: '1', link: 'work/a' },
    { name: 'work/null', flag: '3' },
  );
  const packed = await pack(named, { format: 'tar' });
  const lines = run('tar', ['-tvf', '-'], { input: packed }).toString().trim().split('\n');
  t.match(lines, [/ a$/, / l -> \/etc$/, / h link to a$/], 'links are packed as they are, devices are not');
  t.equal(lines.length, 3);
  const strange = rawTar({ name: 'work/', flag: '5' }, { name: 'other/a' });
  await t.rejects(pack(strange, { format: 'tar' }), {
    code: 'YAVM_E_ARCHIVE',
    message: /not in the directory/,
  });
  t.same(
    listed(await pack(rawTar({ name: 'file', content: 'x' }), { format: 'tar' })),
    ['file'],
    'a file alone',
  );
  t.same(listed(await pack(rawTar(), { format: 'tar' })), [], 'nothing');
});
