/** The files role as a program, under Node and under the guest's engine, against real file systems. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ROLE_HOSTS, runRole } from '../lib/files-role.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { Random } from '../lib/random.ts';
import { bytes, count } from '../lib/scale.ts';
import { type Item, makeTar, readTar, systemTar } from '../lib/tar.ts';
import { listTree } from '../lib/tree.ts';

inNamespaces(import.meta.url);
process.umask(0);

// Some hundred programs are started, under Node too; the runner has a deadline for the whole file.
t.setTimeout(0);

/** A new empty directory. */
const folder = ramFolders(t, '1g');

const random = new Random();
t.comment(`seed ${random.seed}`);
const OLD = 1_500_000_000;

/** A tree with everything that an archive can hold. */
function makeTree(root: string): void {
  const tree = join(root, 'tree');
  mkdirSync(join(tree, 'a/b/c'), { recursive: true });
  mkdirSync(join(tree, 'empty'), 0o700);
  for (const size of [0, 1, 511, 512, 513, 4096, 100_000, 3_000_000]) {
    writeFileSync(join(tree, `a/size-${size}`), random.bytes(size));
  }
  writeFileSync(join(tree, 'a/b/ünïcödé 名前 😀'), 'text');
  mkdirSync(join(tree, 'long', 'd'.repeat(200)), { recursive: true });
  writeFileSync(join(tree, 'long', 'd'.repeat(200), 'f'.repeat(250)), 'deep');
  writeFileSync(join(tree, 'setuid'), 'x');
  chmodSync(join(tree, 'setuid'), 0o6755);
  writeFileSync(join(tree, 'owned'), 'x');
  chownSync(join(tree, 'owned'), 1234, 3_000_000);
  mkdirSync(join(tree, 'sticky'));
  chmodSync(join(tree, 'sticky'), 0o1777);
  linkSync(join(tree, 'owned'), join(tree, 'a/b/c/same'));
  symlinkSync('../nowhere', join(tree, 'dangling'));
  symlinkSync(`/${'t'.repeat(180)}`, join(tree, 'long-link'));
  execFileSync('mkfifo', ['-m', '622', join(tree, 'fifo')]);
  execFileSync('mknod', ['-m', '666', join(tree, 'null'), 'c', '1', '3']);
  execFileSync('mknod', ['-m', '660', join(tree, 'disk'), 'b', '259', '70000']);
  lutimesSync(join(tree, 'dangling'), OLD, OLD);
  for (const name of ['a/size-1', 'fifo', 'null', 'a/b/c', 'a/b', 'a', 'empty', '.'])
    utimesSync(join(tree, name), OLD, OLD);
}

for (const host of Object.keys(ROLE_HOSTS)) {
  t.test(`${host}: a tree goes out, the system’s tar finds it complete`, (t) => {
    const root = folder();
    makeTree(root);
    const { status, output, bytes, entries, error } = runRole(host, root, ['read', 'tar', '/tree']);
    t.equal(error, undefined);
    t.equal(status, 0);
    t.equal(bytes, output.byteLength);
    t.equal(entries, readTar(output).length);
    const target = folder();
    systemTar(['--extract', '--same-owner', '--preserve-permissions', '-C', target, '-f', '-'], output);
    t.strictSame(listTree(target), listTree(root));
    t.end();
  });

  t.test(`${host}: an archive of the system’s tar comes in whole, in each format that can hold it`, (t) => {
    const root = folder();
    makeTree(root);
    for (const format of ['gnu', 'posix']) {
      const archive = systemTar(['--create', `--format=${format}`, '-C', root, '-f', '-', 'tree']);
      const target = folder();
      const { status, bytes, entries, error } = runRole(host, target, ['write', 'tar', '/in/here'], archive);
      t.equal(error, undefined, format);
      t.equal(status, 0);
      t.equal(bytes, archive.byteLength, 'the padding of the last record is read too');
      t.equal(entries, readTar(archive).length);
      t.strictSame(listTree(join(target, 'in/here')), listTree(root), format);
    }
    t.end();
  });

  t.test(`${host}: what was read is what is written`, (t) => {
    const root = folder();
    makeTree(root);
    const target = folder();
    const archive = runRole(host, root, ['read', 'tar', '/']).output;
    t.equal(runRole(host, target, ['write', 'tar', '/'], archive).status, 0);
    t.strictSame(listTree(target), listTree(root));
    t.equal(runRole(host, target, ['write', 'tar', '/'], archive).status, 0, 'a second time over the first');
    t.strictSame(listTree(target), listTree(root));
    t.end();
  });

  t.test(`${host}: the top entry is named as docker cp names it`, (t) => {
    const root = folder();
    mkdirSync(join(root, 'dir/sub'), { recursive: true });
    writeFileSync(join(root, 'dir/f'), 'x');
    symlinkSync('dir', join(root, 'link'));
    const names = (path: string) =>
      readTar(runRole(host, root, ['read', 'tar', path]).output).map(({ name }) => name);
    t.strictSame(names('/dir'), ['dir/', 'dir/f', 'dir/sub/']);
    t.strictSame(names('/dir/'), ['dir/', 'dir/f', 'dir/sub/']);
    t.strictSame(names('/dir/.'), ['./', './f', './sub/']);
    t.strictSame(names('/dir/f'), ['f']);
    t.strictSame(names('/link'), ['link'], 'a link is archived as a link');
    t.strictSame(names('/link/'), ['link/', 'link/f', 'link/sub/'], 'and followed when the path says so');
    t.strictSame(names('/'), ['./', './dir/', './dir/f', './dir/sub/', './link']);
    t.strictSame(names('/dir/sub/..'), ['./', './f', './sub/']);
    t.end();
  });

  t.test(`${host}: what cannot be read is an error with errno and path`, (t) => {
    const root = folder();
    mkdirSync(join(root, 'dir'));
    execFileSync('mkfifo', [join(root, 'fifo')]);
    symlinkSync('loop', join(root, 'loop'));
    const cases: [string[], string, object][] = [
      [['read', 'tar', '/missing'], 'ENOENT', { code: 'file-failed' }],
      [['read', 'tar', '/fifo/x'], 'ENOTDIR', { code: 'file-failed' }],
      [['read', 'file', '/missing'], 'ENOENT', { code: 'file-failed', syscall: 'openat2', path: '/missing' }],
      [['read', 'file', '/dir'], 'EISDIR', { code: 'file-failed', path: '/dir' }],
      [['read', 'file', '/fifo'], 'EINVAL', { code: 'file-failed', path: '/fifo' }],
      [['read', 'file', '/loop'], 'ELOOP', { code: 'file-failed' }],
      [['write', 'file', '/dir'], 'EISDIR', { code: 'file-failed', path: '/dir' }],
      [['write', 'file', '/new/'], 'EISDIR', { code: 'file-failed' }],
      [['write', 'file', '/fifo'], 'EINVAL', { code: 'file-failed', path: '/fifo' }],
      [['write', 'file', '/loop'], 'ELOOP', { code: 'file-failed' }],
      [['write', 'file', '/fifo/x'], 'ENOTDIR', { code: 'file-failed' }],
      [['write', 'tar', '/fifo'], 'ENOTDIR', { code: 'file-failed' }],
    ];
    for (const [words, errno, rest] of cases) {
      const { status, error } = runRole(host, root, words, new Uint8Array(10));
      t.match(error, { errno, ...rest }, words.join(' '));
      t.equal(status, 1);
    }
    t.match(runRole(host, root, ['read', 'zip', '/']).error, { code: 'bad-request' });
    t.strictSame(readdirSync(root).sort(), ['dir', 'fifo', 'loop'], 'nothing is left behind');
    t.end();
  });

  t.test(`${host}: a file comes in with its attributes, by way of a rename`, (t) => {
    const root = folder();
    const content = random.bytes(bytes(1_000_003));
    const words = ['write', 'file', '/new/dir/f', '--mode', String(0o4750), '--uid', '12', '--gid', '34'];
    t.match(runRole(host, root, words, content), { status: 0, bytes: content.byteLength, entries: 1 });
    const file = join(root, 'new/dir/f');
    t.equal(readFileSync(file).compare(content), 0);
    t.match(statSync(file), { mode: 0o104750, uid: 12, gid: 34 });
    t.match(
      statSync(join(root, 'new')),
      { mode: 0o40755, uid: 12, gid: 34 },
      'parents belong to the file’s owner',
    );

    const before = statSync(file).ino;
    t.match(runRole(host, root, ['write', 'file', '/new/dir/f'], Buffer.from('v2')), { status: 0, bytes: 2 });
    t.equal(readFileSync(file, 'utf8'), 'v2');
    t.match(statSync(file), { mode: 0o104750, uid: 12, gid: 34 }, 'attributes that are not given stay');
    t.not(statSync(file).ino, before, 'a reader of the old file keeps the old content');
    t.match(runRole(host, root, ['write', 'file', '/plain'], Buffer.alloc(0)), { status: 0, bytes: 0 });
    t.match(statSync(join(root, 'plain')), { mode: 0o100644, uid: 0, gid: 0, size: 0 });
    t.strictSame(readdirSync(join(root, 'new/dir')), ['f']);
    t.end();
  });

  t.test(`${host}: bytes that were broken off change nothing`, (t) => {
    const root = folder();
    writeFileSync(join(root, 'f'), 'old');
    const whole = ['--whole', '5'];
    const given = { error: { code: 'file-failed', errno: 'ECANCELED' }, status: 1 };
    t.match(runRole(host, root, ['write', 'file', '/f', ...whole], Buffer.from('half'), false), given);
    t.match(runRole(host, root, ['write', 'file', '/new', ...whole], Buffer.alloc(0), false), given);
    t.equal(readFileSync(join(root, 'f'), 'utf8'), 'old');
    const archive = makeTar([{ name: 'a', content: random.bytes(100_000) }]);
    t.match(runRole(host, root, ['write', 'tar', '/', ...whole], archive.subarray(0, 50_000), false), given);
    t.strictSame(readdirSync(root), ['f']);
    t.match(runRole(host, root, ['write', 'file', '/f', ...whole], Buffer.from('all'), true), {
      status: 0,
      bytes: 3,
    });
    t.equal(readFileSync(join(root, 'f'), 'utf8'), 'all');
    t.match(runRole(host, root, ['write', 'tar', '/', ...whole], archive, true), { status: 0, entries: 1 });
    t.end();
  });

  t.test(`${host}: a file goes out whole, also one without a size`, (t) => {
    const root = folder();
    const content = random.bytes(bytes(5_000_000));
    writeFileSync(join(root, 'f'), content);
    const { output, ...reply } = runRole(host, root, ['read', 'file', '/f']);
    t.match(reply, { status: 0, bytes: content.byteLength, entries: 1 });
    t.equal(output.compare(content), 0);
    t.match(String(runRole(host, '/', ['read', 'file', '/proc/filesystems']).output), /tmpfs/);
    t.end();
  });

  t.test(`${host}: links never lead out of the root`, (t) => {
    const outside = folder();
    writeFileSync(join(outside, 'secret'), 'secret');
    const root = join(outside, 'root');
    mkdirSync(join(root, 'etc'), { recursive: true });
    writeFileSync(join(root, 'etc/f'), 'inner');
    symlinkSync('/etc/f', join(root, 'absolute'));
    symlinkSync('../../../etc/f', join(root, 'climbing'));
    symlinkSync(join(outside, 'secret'), join(root, 'secret'));
    symlinkSync('../secret', join(root, 'up'));
    const read = (path: string) => runRole(host, root, ['read', 'file', path]);
    t.equal(String(read('/absolute').output), 'inner');
    t.equal(String(read('/climbing').output), 'inner');
    t.equal(String(read('/../../etc/f').output), 'inner');
    t.match(read('/secret').error, { errno: 'ENOENT' });
    t.match(read('/up').error, { errno: 'ENOENT' });
    t.equal(runRole(host, root, ['write', 'file', '/absolute'], Buffer.from('new')).status, 0);
    t.equal(readFileSync(join(root, 'etc/f'), 'utf8'), 'new', 'a link is followed to its file');
    t.equal(readlinkSync(join(root, 'absolute')), '/etc/f', 'and stays');
    t.equal(runRole(host, root, ['write', 'file', '/secret'], Buffer.from('new')).status, 0);
    t.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'secret');
    t.equal(
      readFileSync(join(root, outside, 'secret'), 'utf8'),
      'new',
      'a dangling link is followed beneath the root',
    );
    t.end();
  });

  t.test(
    `${host}: bad archives are refused, what came before stays, no half file passes for a whole one`,
    (t) => {
      const root = folder();
      const good = makeTar([
        { name: 'first', content: Buffer.from('1') },
        { name: 'second', content: random.bytes(5000) },
      ]);
      t.match(runRole(host, root, ['write', 'tar', '/x'], good.slice(0, 3000)).error, {
        code: 'bad-archive',
        message: /unexpected end at offset 3000/,
      });
      t.strictSame(readdirSync(join(root, 'x')), ['first']);
      t.match(runRole(host, root, ['write', 'tar', '/x'], new Uint8Array(0)).error, { code: 'bad-archive' });
      for (const name of ['../evil', 'a/../../evil', '..']) {
        t.match(runRole(host, root, ['write', 'tar', '/x'], makeTar([{ name }])).error, {
          code: 'bad-archive',
          message: /leads out/,
        });
      }
      t.match(
        runRole(
          host,
          root,
          ['write', 'tar', '/x'],
          makeTar([{ name: 'l', type: 'hardLink', linkName: '../evil' }]),
        ).error,
        { code: 'bad-archive' },
      );
      t.strictSame(
        listTree(root, { times: 'none' }).map((line) => line.split(' ')[0]),
        ['x', 'x/first'],
      );
      t.end();
    },
  );

  t.test(`${host}: planted links do not lead an archive out of its directory`, (t) => {
    const outside = folder();
    mkdirSync(join(outside, 'root/in'), { recursive: true });
    writeFileSync(join(outside, 'root/passwd'), 'outer');
    symlinkSync('/passwd', join(outside, 'root/in/there'));
    const write = (items: Item[]) =>
      runRole(host, join(outside, 'root'), ['write', 'tar', '/in'], makeTar(items));
    const evil = Buffer.from('evil');
    const before = () =>
      listTree(outside, { times: 'not-directories' }).filter((line) => !line.startsWith('root/in'));
    const untouched = before();
    const link = (name: string, linkName: string): Item => ({ name, type: 'symlink', linkName });
    write([link('up', '..'), { name: 'up/passwd', content: evil }]);
    write([link('abs', '/'), { name: 'abs/passwd', content: evil }]);
    write([link('out', outside), { name: 'out/new', content: evil }]);
    write([link('f', '../passwd'), { name: 'f', content: evil }]);
    write([{ name: 'there', content: evil }]);
    write([link('d', '../..'), { name: 'd', type: 'directory', mode: 0, uid: 77 }]);
    write([
      link('h', '/passwd'),
      { name: 'h2', type: 'hardLink', linkName: 'h' },
      { name: 'h2', content: evil },
    ]);
    write([link('p', '..'), { name: 'copy', type: 'hardLink', linkName: 'p/passwd' }]);
    write([{ name: '/passwd2', content: evil }]);
    t.strictSame(before(), untouched);
    t.equal(lstatSync(join(outside, 'root/in/f')).isFile(), true, 'a file takes the place of a link');
    t.equal(
      readFileSync(join(outside, 'root/in/passwd2'), 'utf8'),
      'evil',
      'a leading slash means the directory',
    );
    t.notOk(
      existsSync(join(outside, 'root/in/copy')) &&
        lstatSync(join(outside, 'root/in/copy')).ino === statSync(join(outside, 'root/passwd')).ino,
    );
    t.end();
  });

  t.test(`${host}: random archives full of links change nothing outside`, (t) => {
    const outside = folder();
    mkdirSync(join(outside, 'root/in'), { recursive: true });
    mkdirSync(join(outside, 'root/a'));
    writeFileSync(join(outside, 'root/a/b'), 'outer');
    writeFileSync(join(outside, 'b'), 'outer');
    const before = () =>
      listTree(outside, { times: 'not-directories' }).filter((line) => !line.startsWith('root/in'));
    const untouched = before();
    const parts = ['a', 'b', 'c', '.'];
    const targets = ['..', '../..', '/', '/a', '../a', 'a', 'b', 'c', '../../b', outside];
    const path = () => Array.from({ length: random.between(1, 4) }, () => random.pick(parts)).join('/');
    const item = (): Item => {
      const type = random.pick(['file', 'directory', 'symlink', 'symlink', 'hardLink', 'fifo'] as const);
      const linkName = type === 'symlink' ? random.pick(targets) : type === 'hardLink' ? path() : '';
      return {
        name: path(),
        type,
        linkName,
        mode: 0o777,
        uid: 99,
        content: type === 'file' ? random.bytes(20) : undefined,
      };
    };
    const rounds = count(host === 'init' ? 2000 : 200);
    const codes = new Set<string>();
    for (let round = 0; round < rounds; round++) {
      const { error } = runRole(
        host,
        join(outside, 'root'),
        ['write', 'tar', '/in'],
        makeTar(Array.from({ length: 8 }, item)),
      );
      if (error) codes.add(error.code);
      if (round % 20 === 0) execFileSync('rm', ['-rf', join(outside, 'root/in')]);
    }
    t.strictSame(before(), untouched);
    t.notOk(codes.has('internal'), [...codes].join());
    t.end();
  });

  t.test(
    `${host}: a full disk is an error with its errno, and the file that did not fit is not there`,
    (t) => {
      const root = folder();
      mkdirSync(join(root, 'small'));
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'small', join(root, 'small')]);
      t.teardown(() => execFileSync('umount', [join(root, 'small')]));
      const big = random.bytes(200_000);
      const archive = makeTar([
        { name: 'fits', content: Buffer.from('x') },
        { name: 'big', content: big },
      ]);
      t.match(runRole(host, root, ['write', 'tar', '/small'], archive).error, {
        code: 'file-failed',
        errno: 'ENOSPC',
        message: /'big'/,
      });
      t.strictSame(readdirSync(join(root, 'small')), ['fits']);
      t.match(runRole(host, root, ['write', 'file', '/small/f'], big).error, {
        code: 'file-failed',
        errno: 'ENOSPC',
        message: /'\/small\/f'/,
      });
      t.strictSame(readdirSync(join(root, 'small')), ['fits'], 'nor is the temporary one');
      t.end();
    },
  );

  t.test(`${host}: a walk stays out of kernel file systems, and says when a file shrank`, (t) => {
    const root = folder();
    for (const [name, type] of [
      ['proc', 'proc'],
      ['sys', 'sysfs'],
      ['data', 'tmpfs'],
    ] as const) {
      mkdirSync(join(root, name));
      execFileSync('mount', ['-t', type, type, join(root, name)]);
      t.teardown(() => execFileSync('umount', [join(root, name)]));
    }
    writeFileSync(join(root, 'data/f'), 'x');
    const { output, error } = runRole(host, root, ['read', 'tar', '/']);
    t.equal(error, undefined);
    t.strictSame(
      readTar(output).map(({ name }) => name),
      ['./', './data/', './data/f', './proc/', './sys/'],
    );
    // A file of sysfs claims 4096 bytes and has fewer.
    const shrunk = runRole(host, root, ['read', 'tar', '/sys/kernel/uevent_seqnum']);
    t.match(shrunk.error, { code: 'file-failed', message: /cut while/, path: 'uevent_seqnum' });
    t.equal(readTar(shrunk.output)[0]?.content.byteLength, 4096, 'the archive is whole nevertheless');
    t.end();
  });

  t.test(`${host}: directory links are kept, other things give way, directories do not`, (t) => {
    const root = folder();
    mkdirSync(join(root, 'usr/bin'), { recursive: true });
    mkdirSync(join(root, 'full/x'), { recursive: true });
    symlinkSync('usr/bin', join(root, 'bin'));
    symlinkSync('nowhere', join(root, 'dangling'));
    writeFileSync(join(root, 'file'), 'x');
    const write = (...items: Item[]) => runRole(host, root, ['write', 'tar', '/'], makeTar(items));
    t.equal(
      write({ name: 'bin', type: 'directory', mode: 0o755 }, { name: 'bin/tool', content: Buffer.from('t') })
        .status,
      0,
    );
    t.equal(readlinkSync(join(root, 'bin')), 'usr/bin');
    t.equal(readFileSync(join(root, 'usr/bin/tool'), 'utf8'), 't');
    t.equal(
      write(
        { name: 'dangling', type: 'directory', mode: 0o755 },
        { name: 'file', type: 'directory', mode: 0o700 },
      ).status,
      0,
    );
    t.ok(lstatSync(join(root, 'dangling')).isDirectory());
    t.ok(lstatSync(join(root, 'file')).isDirectory());
    t.match(write({ name: 'full', content: Buffer.from('x') }).error, {
      code: 'file-failed',
      errno: 'EISDIR',
      message: /'full'/,
    });
    t.ok(lstatSync(join(root, 'full/x')).isDirectory());
    t.equal(
      write(
        { name: 'a', content: Buffer.from('1') },
        { name: 'b', type: 'hardLink', linkName: 'a' },
        { name: 'b', type: 'hardLink', linkName: 'a' },
        { name: 'a', type: 'hardLink', linkName: 'a' },
      ).status,
      0,
    );
    t.equal(statSync(join(root, 'a')).nlink, 2, 'a link onto itself loses nothing');
    t.end();
  });
}
