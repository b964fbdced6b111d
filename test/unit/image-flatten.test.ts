/** Layers one over the other: what hides what, by the rules of the OCI image format and the ways of container runtimes. */
import t from 'tap';
import { LAYER_ESCAPES } from '../lib/escapes-layer.ts';
import { flatten, flattenTars, IMPLIED_TIME, treeLines } from '../lib/flatten.ts';
import {
  character,
  directory,
  fifo,
  file,
  hardlink,
  layerTar,
  opaque,
  symlink,
  type TreeItem,
  whiteout,
} from '../lib/layer-tar.ts';

const ROOT = '/ directory 755 0:0';

/** Without the root, which is in every tree. */
async function below(...layers: TreeItem[][]): Promise<string[]> {
  const [root, ...rest] = await flatten(...layers);
  t.equal(root, ROOT);
  return rest;
}

t.test('one layer: everything is kept as it is', async (t) => {
  t.same(
    await flatten([
      directory('.', { mode: 0o711, uid: 5, gid: 6 }),
      directory('d', { mode: 0o1777, uid: 1, gid: 2 }),
      file('d/set', 'x', { mode: 0o6755, uid: 3_000_000_000, gid: 77 }),
      symlink('s', '/d/none'),
      character('null', 1, 3),
      fifo('pipe'),
      hardlink('h', 'd/set'),
    ]),
    [
      '/ directory 711 5:6',
      'd directory 1777 1:2',
      'd/set file 6755 3000000000:77 = x #d/set',
      'h file 6755 3000000000:77 = x #d/set',
      'null character 666 0:0 1:3',
      'pipe fifo 600 0:0',
      's symlink 777 0:0 > /d/none',
    ],
  );
});

t.test('parents that no layer has are made: root’s, 0755, of the image’s time', async (t) => {
  t.same(await below([file('a/b/c', '1', { uid: 9 })]), [
    'a directory 755 0:0',
    'a/b directory 755 0:0',
    'a/b/c file 644 9:0 = 1',
  ]);
  const tree = await flattenTars([layerTar([file('a/b', '')])]);
  t.equal(tree.root.children?.get('a')?.inode.mtime, IMPLIED_TIME);
});

t.test('a name that is there twice in a layer: the last one counts', async (t) => {
  t.same(await below([file('f', 'one'), file('f', 'two', { mode: 0o600 })]), ['f file 600 0:0 = two']);
  t.same(await below([directory('d', { mode: 0o700 }), file('d/x', '1'), directory('d', { mode: 0o750 })]), [
    'd directory 750 0:0',
    'd/x file 644 0:0 = 1',
  ]);
  t.same(await below([file('d/x', '1'), file('d', 'file now')]), ['d file 644 0:0 = file now']);
  t.same(await below([file('d', 'file'), file('other', ''), directory('d'), file('d/y', '2')]), [
    'd directory 755 0:0',
    'd/y file 644 0:0 = 2',
    'other file 644 0:0 = ',
  ]);
});

t.test('an upper layer replaces a file, its metadata, and a directory’s', async (t) => {
  const base = [
    directory('d', { mode: 0o700, uid: 1 }),
    file('d/f', 'old', { mode: 0o600 }),
    file('d/g', 'stays'),
  ];
  t.same(await below(base, [directory('d', { mode: 0o755, uid: 2, gid: 3 }), file('d/f', 'new')]), [
    'd directory 755 2:3',
    'd/f file 644 0:0 = new',
    'd/g file 644 0:0 = stays',
  ]);
  t.same(await below(base, [file('d', 'a file')]), ['d file 644 0:0 = a file']);
  t.same(await below([file('d', 'a file')], base), [
    'd directory 700 1:0',
    'd/f file 600 0:0 = old',
    'd/g file 644 0:0 = stays',
  ]);
  t.same(await below(base, [symlink('d', 'e')]), ['d symlink 777 0:0 > e']);
  t.same(await below([symlink('d', 'e'), file('e/x', '')], [directory('d'), file('d/y', '')]), [
    'd directory 755 0:0',
    'd/y file 644 0:0 = ',
    'e directory 755 0:0',
    'e/x file 644 0:0 = ',
  ]);
});

t.test('a layer’s attributes replace a lower one’s', async (t) => {
  const dropped: string[] = [];
  const tree = await flattenTars(
    [
      layerTar([directory('d', { xattrs: { 'user.a': '1', 'user.b': '2' } })]),
      layerTar([
        directory('d', {
          xattrs: {
            'user.b': 'x\0\n\xff',
            'system.posix_acl_access': 'acl',
            'trusted.overlay.opaque': 'y',
            'security.capability': '\x01\0\0\x02',
            'com.apple.quarantine': 'q',
          },
        }),
      ]),
    ],
    { onDropped: (attribute) => dropped.push(attribute) },
  );
  const xattrs = tree.root.children?.get('d')?.inode.xattrs;
  t.same(
    [...(xattrs ?? [])].map(([name, value]) => [name, value.toString('latin1')]),
    [
      ['user.b', 'x\0\n\xff'],
      ['security.capability', '\x01\0\0\x02'],
    ],
  );
  t.same(dropped, ['system.posix_acl_access', 'trusted.overlay.opaque', 'com.apple.quarantine']);
});

t.test('whiteouts', async (t) => {
  const base = [file('a', '1'), file('d/x', '1'), file('d/e/y', '1'), symlink('l', 'd')];
  t.same(await below(base, [whiteout('a'), whiteout('d/x')]), [
    'd directory 755 0:0',
    'd/e directory 755 0:0',
    'd/e/y file 644 0:0 = 1',
    'l symlink 777 0:0 > d',
  ]);
  t.same(await below(base, [whiteout('d'), whiteout('l')]), ['a file 644 0:0 = 1'], 'a directory, a link');
  t.same(await below(base, [whiteout('none'), whiteout('no/such')]), await below(base), 'nothing to hide');
  t.same(await below(base, [whiteout('d')], [file('d/new', '3')]), [
    'a file 644 0:0 = 1',
    'd directory 755 0:0',
    'd/new file 644 0:0 = 3',
    'l symlink 777 0:0 > d',
  ]);
  t.same(await below([file('f', '1'), file('.wh.f')]), ['f file 644 0:0 = 1'], 'not what its own layer has');
});

t.test('a whiteout hides lower layers only, wherever in its layer it stands', async (t) => {
  const base = [directory('d', { uid: 1 }), file('d/old', '1')];
  const upper = [directory('d', { uid: 2 }), file('d/new', '2')];
  const expected = ['d directory 755 2:0', 'd/new file 644 0:0 = 2'];
  t.same(await below(base, [whiteout('d'), ...upper]), expected, 'before');
  t.same(await below(base, [...upper, whiteout('d')]), expected, 'behind');
  t.same(await below(base, [opaque('d'), ...upper]), expected, 'opaque, before');
  t.same(await below(base, [...upper, opaque('d')]), expected, 'opaque, behind');
});

t.test('opaque directories', async (t) => {
  const base = [file('d/a', '1'), file('d/sub/b', '1'), file('keep', '1')];
  t.same(await below(base, [opaque('d')]), ['d directory 755 0:0', 'keep file 644 0:0 = 1']);
  t.same(await below(base, [file('d/sub/c', '2'), opaque('d')], [file('d/e', '3')]), [
    'd directory 755 0:0',
    'd/e file 644 0:0 = 3',
    'd/sub directory 755 0:0',
    'd/sub/c file 644 0:0 = 2',
    'keep file 644 0:0 = 1',
  ]);
  t.same(await below(base, [file('.wh..wh..opq')]), [], 'the root');
  t.same(
    await below(base, [file('.wh..wh.plnk'), directory('d/.wh..wh.orph')]),
    await below(base),
    "aufs's own",
  );
});

t.test('three layers: each hides what is beneath it, and shows the rest', async (t) => {
  const lines = await below(
    [file('etc/id', 'base'), file('etc/shells', 'base'), file('opt/a', 'base'), file('opt/b', 'base')],
    [file('etc/id', 'middle'), whiteout('etc/shells'), file('opt/c', 'middle'), opaque('opt')],
    [file('etc/id', 'top'), file('etc/shells', 'top'), whiteout('opt/c')],
  );
  t.same(lines, [
    'etc directory 755 0:0',
    'etc/id file 644 0:0 = top',
    'etc/shells file 644 0:0 = top',
    'opt directory 755 0:0',
  ]);
});

t.test('hard links', async (t) => {
  const base = [file('a', 'one', { uid: 4 }), hardlink('b', 'a'), hardlink('c', 'b')];
  t.same(
    await below(base, [whiteout('a')]),
    ['b file 644 4:0 = one #b', 'c file 644 4:0 = one #b'],
    'the first is hidden',
  );
  t.same(await below(base, [file('b', 'two')]), [
    'a file 644 4:0 = one #a',
    'b file 644 0:0 = two',
    'c file 644 4:0 = one #a',
  ]);
  t.same(
    await below(base, [hardlink('d/e', './c'), whiteout('b'), whiteout('c')]),
    ['a file 644 4:0 = one #a', 'd directory 755 0:0', 'd/e file 644 4:0 = one #a'],
    'across layers',
  );
  t.same(await below([file('x', '1'), hardlink('y', '/x')]), [
    'x file 644 0:0 = 1 #x',
    'y file 644 0:0 = 1 #x',
  ]);
  t.same(
    await below([symlink('s', 'nowhere'), hardlink('t', 's')]),
    ['s symlink 777 0:0 > nowhere #s', 't symlink 777 0:0 > nowhere #s'],
    'of a symbolic link itself',
  );
  t.same(await below([file('same', '1'), hardlink('same', 'same')]), ['same file 644 0:0 = 1'], 'to itself');
  for (const [target, says] of [
    ['none', /not there/],
    ['dir', /a directory/],
    ['/', /a directory|not there/],
  ] as const) {
    await t.rejects(flatten([directory('dir'), hardlink('h', target)]), {
      code: 'YAVM_E_IMAGE_ARCHIVE',
      message: says,
    });
  }
});

t.test('names through symbolic links are resolved inside the root', async (t) => {
  const usr = [directory('usr/bin'), symlink('bin', 'usr/bin'), symlink('sbin', '/usr/bin')];
  t.same(await below(usr, [file('bin/tool', '1'), file('sbin/other', '2')], [whiteout('bin/tool')]), [
    'bin symlink 777 0:0 > usr/bin',
    'sbin symlink 777 0:0 > /usr/bin',
    'usr directory 755 0:0',
    'usr/bin directory 755 0:0',
    'usr/bin/other file 644 0:0 = 2',
  ]);
  t.same(
    await below([symlink('out', '../../../etc'), file('out/passwd', 'ours')]),
    ['etc directory 755 0:0', 'etc/passwd file 644 0:0 = ours', 'out symlink 777 0:0 > ../../../etc'],
    'out of the root leads into it',
  );
  t.same(
    await below([symlink('a/l', '../b/./c'), file('a/l/f', 'x'), hardlink('h', 'a/l/f')]),
    [
      'a directory 755 0:0',
      'a/l symlink 777 0:0 > ../b/./c',
      'b directory 755 0:0',
      'b/c directory 755 0:0',
      'b/c/f file 644 0:0 = x #b/c/f',
      'h file 644 0:0 = x #b/c/f',
    ],
    'what a dangling link leads to is made',
  );
});

t.test('in a plain root file system nothing is a mark', async (t) => {
  const tar = layerTar([file('a', '1'), file('.wh.a', '2'), file('d/.wh..wh..opq', '')]);
  const tree = await flattenTars([tar], { whiteouts: false });
  t.same(treeLines(tree).slice(1), [
    '.wh.a file 644 0:0 = 2',
    'a file 644 0:0 = 1',
    'd directory 755 0:0',
    'd/.wh..wh..opq file 644 0:0 = ',
  ]);
});

t.test('what leads out of the root, or nowhere, is refused', async (t) => {
  t.ok(LAYER_ESCAPES.length >= 15, `${LAYER_ESCAPES.length} ways`);
  for (const { what, make, says } of LAYER_ESCAPES) {
    await t.rejects(flattenTars([make()]), { code: 'YAVM_E_IMAGE_ARCHIVE', message: says }, what);
  }
});
