/** Paths, names in a directory, and what cannot be reached from a root. */
import type { Case } from '../harness.ts';
import {
  needsRoot,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  readFile,
  S_IFCHR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  withFolder,
  writeFile,
} from '../tools.ts';

export const pathCases: Case[] = [
  {
    name: 'text: small files whole, cut at the maximum, beneath a root',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const long = 'grün '.repeat(2000);
        writeFile(native, `${folder}/long`, long);
        assert.equal(native.readText(-1, `${folder}/long`, 1_000_000), long, 'longer than one read');
        assert.equal(native.readText(-1, `${folder}/long`, 3), 'gr\uFFFD', 'cut inside a character');
        assert.equal(
          native.readText(-1, '/proc/self/comm', 100).length > 1,
          true,
          'a kernel file, whose size says 0',
        );
        native.symlink('/long', `${folder}/link`);
        const root = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        assert.equal(native.readText(root, 'link', 6), 'grün ', 'an absolute link stays beneath');
        native.writeText(root, '../long', 'short');
        assert.equal(native.readText(root, 'long', 5), 'short', 'written in place, beneath');
        assert.fails(
          () => native.readText(root, 'none', 5),
          { code: 'ENOENT', syscall: 'open', path: 'none' },
          'none',
        );
        assert.fails(
          () => native.writeText(-1, `${folder}/new`, 'x'),
          { code: 'ENOENT', syscall: 'open' },
          'not created',
        );
        assert.fails(() => native.readText(-1, folder, 5), { code: 'EISDIR', syscall: 'read' }, 'a folder');
        native.close(root);
      }),
  },
  {
    name: 'path: make, look at, rename and remove files and folders',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        native.mkdir(`${folder}/d`, 0o750);
        assert.equal(native.stat(`${folder}/d`).mode & 0o7777, 0o750, 'mode of a folder');
        assert.fails(
          () => native.mkdir(`${folder}/d`, 0o750),
          { code: 'EEXIST', syscall: 'mkdir' },
          'mkdir again',
        );
        writeFile(native, `${folder}/f`, 'content', 0o640);
        const stat = native.lstat(`${folder}/f`);
        assert.equal(stat.size, 7, 'size');
        assert.equal(stat.nlink, 1, 'links');
        assert.ok(Math.abs(stat.mtime - Date.now() / 1000) < 60, 'mtime is now');
        native.symlink('f', `${folder}/l`);
        assert.equal(native.readlink(`${folder}/l`), 'f', 'readlink');
        assert.equal(native.stat(`${folder}/l`).ino, stat.ino, 'stat follows');
        assert.equal(native.lstat(`${folder}/l`).mode & S_IFMT, S_IFLNK, 'lstat does not');
        assert.fails(
          () => native.readlink(`${folder}/f`),
          { code: 'EINVAL', syscall: 'readlink' },
          'no link',
        );
        assert.fails(() => native.rmdir(folder), { code: 'ENOTEMPTY', path: folder }, 'not empty');
        native.unlink(`${folder}/f`);
        native.rmdir(`${folder}/d`);
        assert.fails(() => native.stat(`${folder}/l`), { code: 'ENOENT' }, 'a dangling link');
      }),
  },
  {
    name: 'path: the same by names in an open folder',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const dir = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        native.mkdirAt(dir, 'd', 0o700);
        writeFile(native, `${folder}/f`, 'abc');
        native.linkAt(dir, 'f', dir, 'hard');
        assert.equal(native.statAt(dir, 'hard').nlink, 2, 'a hard link');
        native.symlinkAt('nowhere', dir, 's');
        assert.equal(native.readlinkAt(dir, 's'), 'nowhere', 'readlinkAt');
        native.utimesAt(dir, 's', 86_400.5);
        assert.equal(native.statAt(dir, 's').mtime, 86_400.5, 'time of the link itself');
        native.utimesAt(dir, 'f', -1.25);
        assert.equal(native.statAt(dir, 'f').mtime, -1.25, 'a time before 1970');
        assert.fails(() => native.utimesAt(dir, 'f', 1e300), { code: 'EINVAL' }, 'no such time');
        native.mknodAt(dir, 'fifo', S_IFIFO | 0o600, 0, 0);
        assert.equal(native.statAt(dir, 'fifo').mode & S_IFMT, S_IFIFO, 'a fifo');
        const sub = native.open(`${folder}/d`, O_RDONLY | O_DIRECTORY, 0);
        native.renameAt(dir, 'hard', sub, 'moved');
        assert.equal(native.statAt(sub, 'moved').size, 3, 'moved');
        assert.fails(
          () => native.renameAt(dir, 'x', sub, 'y'),
          { code: 'ENOENT', path: 'x' },
          'rename nothing',
        );
        assert.fails(() => native.unlinkAt(dir, 'd', true), { code: 'ENOTEMPTY' }, 'not empty');
        native.unlinkAt(sub, 'moved', false);
        native.close(sub);
        native.unlinkAt(dir, 'd', true);
        native.close(dir);
      }),
  },
  {
    name: 'path: owners and device nodes',
    run: (native, assert) => {
      needsRoot(native, assert);
      return withFolder(native, (folder) => {
        const dir = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        native.symlinkAt('/etc/passwd', dir, 's');
        native.chownAt(dir, 's', 1234, 5678);
        const link = native.statAt(dir, 's');
        assert.equal([link.uid, link.gid], [1234, 5678], 'owner of the link itself');
        assert.equal(native.stat('/etc/passwd').uid, 0, 'not of what it points to');
        native.mknod(`${folder}/null`, S_IFCHR | 0o666, 1, 3);
        const node = native.stat(`${folder}/null`);
        assert.equal([node.mode & S_IFMT, node.rdev], [S_IFCHR, (1 << 8) | 3], 'a device');
        native.chmodAt(dir, 'null', 0o666);
        assert.equal(native.stat(`${folder}/null`).mode & 0o7777, 0o666, 'whatever the umask');
        native.close(dir);
      });
    },
  },
  {
    name: 'path: entries of a folder, with their types, each time from the start',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        for (let index = 0; index < 1500; index++) writeFile(native, `${folder}/file-${index}`, '');
        native.mkdir(`${folder}/d`, 0o755);
        native.symlink('x', `${folder}/l`);
        const dir = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        const first = native.readDirectory(dir);
        assert.equal(first.length, 1502, 'count, without . and ..');
        const types = new Map(first.map((entry) => [entry.name, entry.type]));
        assert.equal([types.get('d'), types.get('l'), types.get('file-7')], [4, 10, 8], 'types');
        assert.equal(native.readDirectory(dir), first, 'again');
        native.close(dir);
        const file = native.open(`${folder}/file-0`, O_RDONLY, 0);
        assert.fails(() => native.readDirectory(file), { code: 'ENOTDIR', syscall: 'getdents64' }, 'a file');
        native.close(file);
      }),
  },
  {
    name: 'path: nothing outside the root can be reached beneath it',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        native.mkdir(`${folder}/root`, 0o755);
        writeFile(native, `${folder}/secret`, 'outside');
        writeFile(native, `${folder}/root/secret`, 'inside');
        native.symlink('../secret', `${folder}/root/up`);
        native.symlink(`${folder}/secret`, `${folder}/root/absolute`);
        native.symlink('/secret', `${folder}/root/rooted`);
        native.symlink('/proc/self/root/etc/passwd', `${folder}/root/magic`);
        native.symlink('loop', `${folder}/root/loop`);
        const root = native.open(`${folder}/root`, O_PATH | O_DIRECTORY, 0);
        const read = (path: string): string => {
          const fd = native.openBeneath(root, path, O_RDONLY, 0);
          const content = readFile(native, `/proc/self/fd/${fd}`);
          native.close(fd);
          return content;
        };
        for (const path of [
          'secret',
          '/secret',
          '../secret',
          '../../../secret',
          'up',
          'rooted',
          './/secret',
        ]) {
          assert.equal(read(path), 'inside', path);
        }
        assert.fails(
          () => read('absolute'),
          { code: 'ENOENT', syscall: 'openat2', path: 'absolute' },
          'absolute',
        );
        assert.fails(() => read('magic'), { code: 'ENOENT' }, 'through /proc');
        assert.fails(() => read('loop'), { code: 'ELOOP' }, 'a loop');
        const made = native.openBeneath(root, '../made', O_WRONLY | O_CREAT | O_EXCL, 0o600);
        native.close(made);
        assert.equal(native.stat(`${folder}/root/made`).mode & 0o777, 0o600, 'made inside');
        assert.fails(
          () => native.openBeneath(root, 'made', O_WRONLY | O_CREAT | O_EXCL, 0o600),
          { code: 'EEXIST' },
          'made once',
        );
        native.close(root);
        const proc = native.open('/proc/self', O_PATH | O_DIRECTORY, 0);
        assert.fails(
          () => native.openBeneath(proc, 'root/etc', O_RDONLY, 0),
          { code: 'ELOOP' },
          'a magic link',
        );
        native.close(proc);
      }),
  },
];
