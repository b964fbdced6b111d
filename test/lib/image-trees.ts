/**
 * Images as people have them, in layers, and beside each what is to be seen in the end, written down by hand: Alpine's
 * shape, Debian's and distroless's, and a tree with everything that is hard about names and files.
 */
import {
  block,
  character,
  directory,
  fifo,
  file,
  hardlink,
  opaque,
  symlink,
  type TreeItem,
  whiteout,
} from './layer-tar.ts';

export interface TestTree {
  /** Docker's ContainerConfig. */
  config: object;
  layers: TreeItem[][];
  /** What is left of them, hard links as links to the first of their names; directories that no layer has are not in it. */
  expected: TreeItem[];
}

/** Programs that a shell script in the VM calls. */
const APPLETS = [
  'sh',
  'cat',
  'id',
  'find',
  'stat',
  'sha256sum',
  'readlink',
  'env',
  'pwd',
  'sort',
  'ls',
  'echo',
  'wc',
];

const PASSWD = 'root:x:0:0:root:/root:/bin/sh\njob:x:1000:1000::/home/job:/bin/sh\n';
const CAPABILITY = '\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0';

/** Three layers: a small system, packages, the task. `busybox` is a static program. */
export function alpineLike(busybox: Buffer): TestTree {
  const kept = [
    directory('bin'),
    file('bin/busybox', busybox, { mode: 0o755 }),
    ...APPLETS.map((name) => symlink(`bin/${name}`, '/bin/busybox')),
    directory('etc'),
    file('etc/alpine-release', '3.20.0\n'),
    file('etc/passwd', PASSWD),
    file('etc/group', 'root:x:0:\njob:x:1000:\n'),
    file('etc/shadow', 'root:*::0:::::\n', { mode: 0o640, gid: 42 }),
    directory('home', { mode: 0o755 }),
    directory('home/job', { mode: 0o2750, uid: 1000, gid: 1000 }),
    directory('lib/apk/db'),
    directory('root', { mode: 0o700 }),
    directory('tmp', { mode: 0o1777 }),
    directory('proc', { mode: 0o555 }),
    directory('dev'),
    directory('var/cache/apk'),
    directory('usr/bin'),
  ];
  const base = [
    ...kept,
    directory('.', { mode: 0o755 }),
    file('lib/apk/db/installed', 'P:busybox\n'),
    file('etc/motd', 'Welcome\n'),
    file('etc/issue', 'Alpine\n'),
    file('var/cache/apk/index.tar.gz', 'x'.repeat(5000)),
    directory('opt'),
    file('opt/removed', 'soon gone'),
  ];
  const packages = [
    directory('lib/apk/db', { mode: 0o750 }),
    file('lib/apk/db/installed', 'P:busybox\nP:tool\n', { mtime: 1_650_000_000 }),
    opaque('var/cache/apk'),
    directory('usr/bin'),
    file('usr/bin/tool', '#!/bin/sh\necho tool\n', { mode: 0o755 }),
    hardlink('usr/bin/tool2', 'usr/bin/tool'),
  ];
  const task = [
    whiteout('etc/motd'),
    whiteout('usr/bin/tool'),
    whiteout('opt'),
    file('opt', 'a file now'),
    whiteout('etc/issue'),
    directory('etc/issue'),
    file('etc/issue/d', 'a directory now'),
    hardlink('usr/bin/alias', 'usr/bin/tool2'),
  ];
  return {
    config: {
      Env: ['PATH=/usr/bin:/bin', 'FROM=alpine'],
      Entrypoint: ['/bin/sh', '-c'],
      Cmd: ['id -un; pwd; echo $FROM; tool2'],
      User: 'job',
      // Docker makes it; the image has it not.
      WorkingDir: '/home/job/work/new',
    },
    layers: [base, packages, task],
    expected: [
      ...kept.filter(({ path }) => path !== 'lib/apk/db'),
      directory('lib/apk/db', { mode: 0o750 }),
      file('lib/apk/db/installed', 'P:busybox\nP:tool\n', { mtime: 1_650_000_000 }),
      file('usr/bin/alias', '#!/bin/sh\necho tool\n', { mode: 0o755 }),
      hardlink('usr/bin/tool2', 'usr/bin/alias', { mode: 0o755 }),
      file('opt', 'a file now'),
      directory('etc/issue'),
      file('etc/issue/d', 'a directory now'),
    ],
  };
}

/** Programs in /usr alone, package lists with long names, set-id bits, capabilities, devices, ACL-like owners. */
export function debianLike(busybox: Buffer): TestTree {
  const lists = Array.from({ length: 60 }, (_, index) =>
    file(`var/lib/dpkg/info/lib${'very-long-name-'.repeat(6)}${index}:amd64.list`, `/usr/lib/${index}\n`),
  );
  const base = [
    directory('usr/bin'),
    directory('usr/sbin'),
    directory('usr/lib/x86_64-linux-gnu'),
    symlink('bin', 'usr/bin'),
    symlink('sbin', 'usr/sbin'),
    symlink('lib', 'usr/lib'),
    file('usr/bin/busybox', busybox, { mode: 0o755 }),
    ...APPLETS.map((name) => symlink(`usr/bin/${name}`, 'busybox')),
    file('usr/bin/passwd', 'set-uid', { mode: 0o4755 }),
    file('usr/bin/chage', 'set-gid', { mode: 0o2755, gid: 42 }),
    file('usr/bin/ping', 'capable', { mode: 0o755, xattrs: { 'security.capability': CAPABILITY } }),
    directory('etc'),
    file('etc/passwd', `${PASSWD}_apt:x:100:65534::/nonexistent:/usr/sbin/nologin\n`),
    file('etc/shadow', 'root:*:1::::::\n', { mode: 0o640, gid: 42 }),
    directory('etc/alternatives'),
    symlink('etc/alternatives/awk', '/usr/bin/mawk'),
    directory('var/lib/dpkg/info'),
    ...lists,
    directory('var/cache/apt/archives/partial', { mode: 0o700, uid: 100, gid: 0 }),
    directory('var/mail', { mode: 0o2775, gid: 8 }),
    symlink('var/spool/mail', '../mail'),
    directory('dev'),
    character('dev/null', 1, 3),
    block('dev/sda', 8, 0, { gid: 6 }),
    character('dev/ptmx', 5, 2, { mode: 0o666, gid: 5 }),
    fifo('dev/initctl'),
    directory('tmp', { mode: 0o1777 }),
    directory('proc'),
  ];
  // Names of before the merge of /usr.
  const update = [
    file('bin/late', '#!/bin/sh\n', { mode: 0o755 }),
    file('lib/x86_64-linux-gnu/libz.so.1.2.13', 'library'),
    symlink('lib/x86_64-linux-gnu/libz.so.1', 'libz.so.1.2.13'),
    whiteout('bin/chage'),
    directory('var/mail', { mode: 0o2770, uid: 8, gid: 8 }),
  ];
  return {
    config: { Env: ['PATH=/bin'], Cmd: ['sh', '-c', 'echo debian'], Volumes: { '/var/mail': {} } },
    layers: [base, update],
    expected: [
      ...base.filter(({ path }) => path !== 'usr/bin/chage' && path !== 'var/mail'),
      file('usr/bin/late', '#!/bin/sh\n', { mode: 0o755 }),
      file('usr/lib/x86_64-linux-gnu/libz.so.1.2.13', 'library'),
      symlink('usr/lib/x86_64-linux-gnu/libz.so.1', 'libz.so.1.2.13'),
      directory('var/mail', { mode: 0o2770, uid: 8, gid: 8 }),
    ],
  };
}

/** One program, no shell, no passwd, a number as user. */
export function distrolessLike(busybox: Buffer): TestTree {
  const base = [directory('etc/ssl/certs'), file('etc/ssl/certs/ca.crt', 'certificate\n', { mode: 0o444 })];
  const app = [file('app/busybox', busybox, { mode: 0o555, uid: 65532, gid: 65532 })];
  return {
    config: { Entrypoint: ['/app/busybox', 'id'], User: '65532:65532', WorkingDir: '/app' },
    layers: [base, app],
    expected: [...base, ...app],
  };
}

/** Bytes that no UTF-8 has. */
const RAW = '\xff\xfe\xc0';

/** What archives break on: names of all bytes, long ones, deep ones, many, holes, large and empty files. */
export function hardTree(many: number): TestTree {
  const names = [
    ...[
      'with space',
      ' lead',
      'trail ',
      'new\nline',
      'tab\there',
      'back\\slash',
      'quote"\'s',
      '-dash',
      '.hidden',
    ],
    ...[
      '..data',
      '...',
      `raw ${RAW}`,
      Buffer.from('grüße 漢字', 'utf8').toString('latin1'),
      'n'.repeat(255),
      '*?[x]',
    ],
    ...['.wh', 'x.wh.y', '#', '%41', '$HOME', '\x01\x7f'],
  ];
  const deep = Array.from({ length: 60 }, (_, level) => `level-${level}-${'d'.repeat(20)}`).join('/');
  const zeros = Buffer.alloc(3 * 1024 * 1024);
  zeros.write('end', zeros.length - 3);
  const expected = [
    directory('names'),
    ...names.map((name, index) => file(`names/${name}`, `${index}`)),
    directory('names-d'),
    ...names.map((name) => directory(`names-d/${name}`, { mode: 0o700 })),
    symlink('to-raw', `names/raw ${RAW}`),
    symlink('to-space', 'names/with space'),
    file(`${deep}/bottom`, 'deep'),
    file('zeros', zeros),
    file('empty'),
    file('block', Buffer.alloc(128 * 1024, 'exactly one block')),
    file('attributes', 'x', {
      xattrs: { 'user.empty': '', 'user.bytes': `\0\n=${RAW}`, 'trusted.t': 't', 'security.s': 's' },
    }),
    directory('attributes-d', { xattrs: { 'user.d': 'directory' } }),
    file('owner', '', { uid: 3_000_000_000, gid: 4_000_000_000, mode: 0o000 }),
    file('old', '', { mtime: 1 }),
    file('links/a', 'linked'),
    ...Array.from({ length: 20 }, (_, index) => hardlink(`links/b${index}`, 'links/a')),
    ...Array.from({ length: many }, (_, index) =>
      // Of many sizes: mksquashfs compares each file with all others of its size.
      file(`many/${index % 100}/${index}`, `content ${index}${'.'.repeat(index % 997)}`, {
        mode: 0o600 + (index % 8),
      }),
    ),
  ];
  return { config: {}, layers: [expected], expected };
}
