/** Mounts and the change of the root, in a mount namespace of this thread's own. */
import type { Case } from '../harness.ts';
import {
  isolate,
  MNT_DETACH,
  MS_BIND,
  needsRoot,
  O_DIRECTORY,
  O_PATH,
  readFile,
  withFolder,
  writeFile,
} from '../tools.ts';

export const mountCases: Case[] = [
  {
    name: 'mount: tmpfs with options, statfs, bind, umount',
    run: (native, assert) => {
      needsRoot(native, assert);
      isolate(native, assert);
      return withFolder(native, (folder) => {
        native.mkdir(`${folder}/a`, 0o755);
        native.mkdir(`${folder}/b`, 0o755);
        native.mount('none', `${folder}/a`, 'tmpfs', 0, 'size=1m,mode=711,nr_inodes=100');
        assert.equal(native.stat(`${folder}/a`).mode & 0o777, 0o711, 'option mode');
        const stats = native.statfs(`${folder}/a`);
        assert.equal(
          [stats.total, stats.files, stats.type],
          [1 << 20, 100, 0x01021994],
          'size, inodes, type',
        );
        assert.ok(stats.available <= stats.free && stats.free <= stats.total, 'sizes in bytes');
        writeFile(native, `${folder}/a/f`, 'x'.repeat(5000));
        assert.equal(native.statfs(`${folder}/a`).free, stats.free - 2 * stats.blockSize, 'two blocks less');
        native.mount(`${folder}/a`, `${folder}/b`, null, MS_BIND, null);
        assert.equal(native.stat(`${folder}/b/f`).size, 5000, 'bound');
        native.umount(`${folder}/b`, 0);
        assert.fails(() => native.stat(`${folder}/b/f`), { code: 'ENOENT' }, 'unbound');
        native.umount(`${folder}/a`, MNT_DETACH);
        assert.fails(
          () => native.umount(`${folder}/a`, 0),
          { code: 'EINVAL', syscall: 'umount2' },
          'no mount there',
        );
      });
    },
  },
  {
    name: 'mount: errors name the target',
    run: (native, assert) => {
      needsRoot(native, assert);
      isolate(native, assert);
      return withFolder(native, (folder) => {
        assert.fails(
          () => native.mount('none', folder, 'nofs', 0, null),
          { code: 'ENODEV', syscall: 'mount', path: folder },
          'no such file system',
        );
        assert.fails(
          () => native.mount('none', '/nowhere', 'tmpfs', 0, null),
          { code: 'ENOENT', path: '/nowhere' },
          'target',
        );
        assert.fails(
          () => native.mount('none', folder, 'tmpfs', 0, 'nonsense=1'),
          { code: 'EINVAL' },
          'option',
        );
        assert.fails(() => native.statfs('/nowhere'), { code: 'ENOENT', syscall: 'statfs' }, 'statfs');
        assert.fails(() => native.chroot('/nowhere'), { code: 'ENOENT', syscall: 'chroot' }, 'chroot');
        assert.fails(
          () => native.pivotRoot('/nowhere', '/nowhere'),
          { code: 'ENOENT', syscall: 'pivot_root' },
          'pivot',
        );
        assert.fails(() => native.switchRoot('/nowhere'), { code: 'ENOENT', syscall: 'chdir' }, 'switch');
      });
    },
  },
  {
    name: 'root: pivot there and back',
    run: (native, assert) => {
      needsRoot(native, assert);
      isolate(native, assert);
      return withFolder(native, (folder) => {
        native.mount('none', folder, 'tmpfs', 0, null);
        native.mkdir(`${folder}/old`, 0o755);
        writeFile(native, `${folder}/marker`, 'new');
        native.pivotRoot(folder, `${folder}/old`);
        try {
          assert.equal(readFile(native, '/marker'), 'new', 'the new root');
          assert.ok(native.stat('/old/etc').ino > 0, 'the old one beneath it');
        } finally {
          native.pivotRoot('/old', `/old${folder}`);
        }
        assert.equal(readFile(native, `${folder}/marker`), 'new', 'back');
        native.umount(folder, MNT_DETACH);
      });
    },
  },
  {
    name: 'root: switched as switch_root does it',
    run: (native, assert) => {
      needsRoot(native, assert);
      isolate(native, assert);
      return withFolder(native, (folder) => {
        const old = native.open('/', O_PATH | O_DIRECTORY, 0);
        native.mount('none', folder, 'tmpfs', 0, null);
        native.mkdir(`${folder}/proc`, 0o755);
        native.mount('proc', `${folder}/proc`, 'proc', 0, null);
        writeFile(native, `${folder}/marker`, 'new');
        native.switchRoot(folder);
        try {
          assert.equal(readFile(native, '/marker'), 'new', 'the new root');
          assert.equal(readFile(native, 'marker'), 'new', 'and working folder');
          assert.fails(() => native.stat('/etc'), { code: 'ENOENT' }, 'nothing of the old one');
        } finally {
          // The way back that PID 1 has not: a descriptor kept from before.
          native.chroot(`/proc/self/fd/${old}`);
          native.close(old);
        }
        assert.ok(native.stat('/etc').ino > 0, 'back');
        native.umount('.', MNT_DETACH);
      });
    },
  },
];
