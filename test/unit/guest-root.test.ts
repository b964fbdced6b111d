import t from 'tap';
import type { ModuleLoader } from '../../guest/boot/modules.ts';
import {
  MNT_DETACH,
  MS_BIND,
  MS_MOVE,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
} from '../../guest/boot/mount-flags.ts';
import { overlayOptions } from '../../guest/boot/overlay.ts';
import { buildRootAt, enterRoot, ext4Options, PLACES, type TaskRoot } from '../../guest/boot/root.ts';
import { unmountAll } from '../../guest/boot/teardown.ts';
import { mountVolumesWith, parentsFirst } from '../../guest/boot/volumes.ts';
import type { MountSpec } from '../../guest/protocol/messages.ts';
import type { Native } from '../../native/face.ts';
import { type Fake, fakeNative, systemError } from '../lib/fake-native.ts';

const DISKS = new Map([
  ['layer-0', '/dev/vda'],
  ['layer-1', '/dev/vdb'],
  ['upper', '/dev/vdc'],
  ['data', '/dev/vdd'],
]);
const LAYERS = [{ serial: 'layer-0' }, { serial: 'layer-1' }];

function scene(files: string[] = [], replace: Partial<Native> = {}) {
  const purposes: string[] = [];
  const modules = {
    loadFor: (purpose: string) => purposes.push(purpose),
    load: (name: string) => purposes.push(name),
    loadOptional: (name: string) => purposes.push(`${name}?`),
  } as unknown as ModuleLoader;
  const directories = Object.fromEntries(
    [PLACES.newRoot, `${PLACES.upper}/upper`, ...files].map((path) => [path, []]),
  );
  const fake = fakeNative(directories, {
    stat: () => ({ mode: 0o40751, uid: 5, gid: 6, size: 0, mtime: 0, dev: 1, ino: 1, nlink: 1, rdev: 0 }),
    mkdirAt: () => {
      throw systemError('EEXIST', 'mkdirat');
    },
    ...replace,
  });
  return { fake, purposes, context: { native: fake.native, modules } };
}

const mountsOf = (fake: Fake) => fake.only('mount').map(([, ...args]) => args);

t.test('layers below, a disk above, joined at the new root', (t) => {
  const { fake, purposes, context } = scene(['var']);
  const root = buildRootAt(context, { layers: LAYERS, upper: { serial: 'upper' } }, DISKS, PLACES);
  t.strictSame(mountsOf(fake), [
    ['/dev/vda', '/layers/0', 'squashfs', MS_RDONLY | MS_NODEV, null],
    ['/dev/vdb', '/layers/1', 'squashfs', MS_RDONLY | MS_NODEV, null],
    ['/dev/vdc', '/upper', 'ext4', MS_NODEV, ext4Options()],
    [
      'overlay',
      '/newroot',
      'overlay',
      MS_NODEV,
      overlayOptions(['/layers/0', '/layers/1'], '/upper/upper', '/upper/work'),
    ],
  ]);
  t.strictSame(purposes, ['layers', 'ext4']);
  t.strictSame(root.writable, ['/upper']);
  t.equal(fake.open.get(root.fd), '/newroot');
  t.equal(fake.open.size, 1, 'only the root stays open');
  const fresh = fake.only('chownFd', 'chmodFd').slice(0, 2);
  t.strictSame(
    fresh.map(([name, , ...rest]) => [name, ...rest]),
    [
      ['chownFd', 5, 6],
      ['chmodFd', 0o751],
    ],
    'a fresh upper gets the mode and owner of the topmost layer’s root',
  );
  t.end();
});

t.test('an upper that has been used keeps its own mode and owner', (t) => {
  const { fake, context } = scene(['var'], {
    mkdir: () => {
      throw systemError('EEXIST', 'mkdir');
    },
  });
  buildRootAt(context, { layers: LAYERS, upper: { serial: 'upper' } }, DISKS, PLACES);
  t.strictSame(fake.only('stat', 'chownFd', 'chmodFd'), []);
  t.end();
});

t.test('an upper in memory has its size; nothing is to be made safe at the end', (t) => {
  const { fake, purposes, context } = scene(['var']);
  const root = buildRootAt(context, { layers: LAYERS, upper: { ram: 65536.5 } }, DISKS, PLACES);
  t.strictSame(mountsOf(fake)[2], ['upper', '/upper', 'tmpfs', MS_NODEV, 'size=65536,mode=0755']);
  t.strictSame(root.writable, []);
  t.strictSame(purposes, ['layers']);
  t.end();
});

t.test('no layers: the root is the upper directory alone, without lost+found', (t) => {
  const { fake, purposes, context } = scene(['var']);
  buildRootAt(context, { layers: [], upper: { serial: 'upper' } }, DISKS, PLACES);
  t.strictSame(mountsOf(fake)[1], ['/upper/upper', '/newroot', null, MS_BIND, null]);
  t.strictSame(purposes, ['ext4']);
  t.end();
});

t.test('a layer that is no squashfs is named by number and serial', (t) => {
  const { context } = scene([], {
    mount: (_source, target) => {
      if (target === '/layers/1') throw systemError('EINVAL', 'mount', target);
    },
  });
  t.throws(() => buildRootAt(context, { layers: LAYERS, upper: { ram: 1 } }, DISKS, PLACES), {
    code: 'mount-failed',
    errno: 'EINVAL',
    message: /layer 1 \(disk 'layer-1'\) as squashfs/,
  });
  t.end();
});

t.test('missing directories are made, /tmp for everybody; existing ones are left alone', (t) => {
  const made: [string, number][] = [];
  const { fake, context } = scene(['dev', 'proc', 'sys', 'run', 'var', 'tmp'], {
    mkdirAt: (_dir, name, mode) => {
      if (name === 'etc') throw systemError('EEXIST', 'mkdirat');
      made.push([name, mode]);
    },
  });
  buildRootAt(context, { layers: [], upper: { ram: 1 } }, DISKS, PLACES);
  t.strictSame(made, [
    ['dev', 0o755],
    ['proc', 0o555],
    ['sys', 0o555],
    ['run', 0o755],
    ['tmp', 0o1777],
    ['var', 0o755],
    ['tmp', 0o1777],
  ]);
  const modes = fake.only('chmodFd').map(([, , mode]) => mode);
  t.strictSame(modes, [0o1777, 0o1777], 'mkdir drops what the umask has, chmod does not');
  t.equal(fake.open.size, 1);
  t.end();
});

t.test('a /var that leads nowhere is the image’s own affair', (t) => {
  const { context } = scene();
  t.doesNotThrow(() => buildRootAt(context, { layers: [], upper: { ram: 1 } }, DISKS, PLACES));
  t.end();
});

t.test('overlay options: order of layers, every default written out, bounded', (t) => {
  const options = overlayOptions(['/layers/0', '/layers/1'], '/u', '/w').split(',');
  t.strictSame(options.slice(0, 3), ['lowerdir=/layers/0:/layers/1', 'upperdir=/u', 'workdir=/w']);
  t.strictSame(
    options.slice(3).map((option) => option.split('=')[0]),
    ['redirect_dir', 'index', 'metacopy', 'xino'],
  );
  t.notOk(options.includes('volatile'), 'an fsync reaches the disk');
  const many = Array.from({ length: 500 }, (_, index) => `/layers/${index}`);
  t.throws(() => overlayOptions(many, '/u', '/w'), { code: 'bad-request', message: /500 layers/ });
  t.doesNotThrow(() => overlayOptions(many.slice(0, 300), '/u', '/w'));
  t.end();
});

t.test('the root takes the place of / in one move', (t) => {
  const { fake } = scene();
  enterRoot(fake.native, { fd: 1, writable: [], places: PLACES });
  t.strictSame(mountsOf(fake), [['/newroot', '/', null, MS_MOVE, null]]);
  t.end();
});

const freshRoot = (): TaskRoot => ({ fd: 9, writable: ['/upper'], places: PLACES });

t.test('volumes: parents first, each kind with its own options', (t) => {
  const specs: MountSpec[] = [
    { kind: '9p', tag: 'share', path: '/a/b/c', readOnly: true },
    { kind: 'ram', size: 4096, path: '/a/b', mode: 0o700, noExec: true, noSuid: true },
    { kind: 'disk', serial: 'data', path: '/a' },
    { kind: 'virtiofs', tag: 'fs', path: '/z/z/z/z' },
  ];
  t.strictSame(
    parentsFirst(specs).map(({ path }) => path),
    ['/a', '/a/b', '/a/b/c', '/z/z/z/z'],
  );
  const { fake, purposes, context } = scene(['/a', '/a/b', '/a/b/c', '/z/z/z/z', '/volumes/1']);
  const root = freshRoot();
  mountVolumesWith(context, root, specs, DISKS);
  t.strictSame(
    mountsOf(fake).map(([source, target, ...rest]) => [
      source,
      /^\/proc\/self\/fd\/\d+$/.test(`${target}`) ? 'fd' : target,
      ...rest,
    ]),
    [
      ['/dev/vdd', '/volumes/1', 'ext4', MS_NODEV, ext4Options()],
      ['/volumes/1', 'fd', null, MS_BIND, null],
      ['ram', 'fd', 'tmpfs', MS_NODEV | MS_NOEXEC | MS_NOSUID, 'size=4096,mode=700'],
      ['share', 'fd', '9p', MS_NODEV | MS_RDONLY, 'trans=virtio,version=9p2000.L,msize=512000,cache=mmap'],
      ['fs', 'fd', 'virtiofs', MS_NODEV, null],
    ],
  );
  t.strictSame(root.writable, ['/upper', '/volumes/1']);
  t.strictSame(purposes, ['ext4', '9p', 'virtiofs']);
  t.equal(fake.open.size, 0);
  t.end();
});

t.test('a disk of its own: as its maker left it, it is emptied and gets the owner of what it covers', (t) => {
  const spec: MountSpec = { kind: 'disk', serial: 'data', path: '/m', errors: 'panic' };
  const fresh = scene(['/m', '/volumes/1']);
  mountVolumesWith(fresh.context, freshRoot(), [spec], DISKS);
  t.equal(mountsOf(fresh.fake)[0]?.[4], ext4Options('panic'));
  t.match(ext4Options('panic'), /,errors=panic$/);
  t.strictSame(
    fresh.fake.only('rmdir', 'chownFd', 'chmodFd').map(([name, , ...rest]) => [name, ...rest]),
    [['rmdir'], ['chownFd', 5, 6], ['chmodFd', 0o751]],
  );
  for (const code of ['ENOENT', 'ENOTEMPTY']) {
    const used = scene(['/m'], {
      rmdir: () => {
        throw systemError(code, 'rmdir');
      },
    });
    mountVolumesWith(used.context, freshRoot(), [spec], DISKS);
    t.strictSame(used.fake.only('chownFd', 'chmodFd'), [], 'one that was used keeps what it has');
  }
  const fixed = scene(['/m']);
  mountVolumesWith(fixed.context, freshRoot(), [{ ...spec, readOnly: true }], DISKS);
  t.strictSame(fixed.fake.only('rmdir', 'chownFd'), []);
  t.end();
});

t.test('what the upper disk does on errors is asked for, too', (t) => {
  const { fake, context } = scene();
  buildRootAt(context, { layers: [], upper: { serial: 'upper', errors: 'continue' } }, DISKS, PLACES);
  t.equal(mountsOf(fake)[0]?.[4], ext4Options('continue'));
  t.end();
});

t.test('a disk volume of another type: its module if there is one, the options as asked', (t) => {
  const { fake, purposes, context } = scene(['/m']);
  const spec: MountSpec = {
    kind: 'disk',
    serial: 'data',
    path: '/m',
    type: 'xfs',
    options: 'nouuid',
    readOnly: true,
  };
  mountVolumesWith(context, freshRoot(), [spec], DISKS);
  t.strictSame(mountsOf(fake)[0], ['/dev/vdd', '/volumes/1', 'xfs', MS_NODEV | MS_RDONLY, 'nouuid']);
  t.strictSame(purposes, ['xfs?']);
  t.end();
});

t.test('a directory volume is a directory of the root: no mount, its mode set when given', (t) => {
  const { fake, context } = scene(['/d']);
  mountVolumesWith(context, freshRoot(), [{ kind: 'directory', path: '/d' }], DISKS);
  t.strictSame(fake.only('mount', 'chmodFd'), []);
  mountVolumesWith(context, freshRoot(), [{ kind: 'directory', path: '/d', mode: 0o1777 }], DISKS);
  t.strictSame(
    fake.only('mount', 'chmodFd').map(([name, , mode]) => [name, mode]),
    [['chmodFd', 0o1777]],
  );
  t.end();
});

t.test('volumes at impossible places are refused', (t) => {
  const { fake, context } = scene();
  for (const path of ['/', '//.', '/a/..', '/../..', 'relative', '', '/nul\0', `/${'x'.repeat(5000)}`]) {
    t.throws(
      () => mountVolumesWith(context, freshRoot(), [{ kind: 'ram', size: 1, path }], DISKS),
      { code: 'bad-request' },
      JSON.stringify(path.slice(0, 20)),
    );
  }
  t.strictSame(mountsOf(fake), []);
  t.end();
});

t.test('teardown: sync, the tree detached, then each disk clean, the last one first', (t) => {
  const { fake } = scene();
  const root = { fd: fake.native.open('/newroot', 0, 0), writable: ['/upper', '/volumes/1'], places: PLACES };
  fake.calls.length = 0;
  t.strictSame(unmountAll(fake.native, root), []);
  t.strictSame(fake.calls, [
    ['sync'],
    ['umount', `/proc/self/fd/${root.fd}`, MNT_DETACH],
    ['close', root.fd],
    ['mount', null, '/volumes/1', null, MS_REMOUNT | MS_RDONLY, null],
    ['umount', '/volumes/1', 0],
    ['mount', null, '/upper', null, MS_REMOUNT | MS_RDONLY, null],
    ['umount', '/upper', 0],
  ]);
  t.end();
});

t.test('teardown goes on after each failure, and says what failed', (t) => {
  const { fake } = scene([], {
    sync: () => {
      throw systemError('EIO', 'sync');
    },
    mount: (_source, target) => {
      throw systemError('EBUSY', 'mount', target);
    },
    umount: (target) => {
      throw systemError('EINVAL', 'umount2', target);
    },
  });
  const root = { fd: fake.native.open('/newroot', 0, 0), writable: ['/upper', '/volumes/1'], places: PLACES };
  const problems = unmountAll(fake.native, root);
  t.match(problems, [
    /^sync: .*EIO/,
    /^detaching .*EINVAL/,
    /making \/volumes\/1 read-only: .*EBUSY/,
    /\/upper.*EBUSY/,
  ]);
  t.equal(problems.length, 4);
  t.equal(fake.open.size, 0);
  t.end();
});
