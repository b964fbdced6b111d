import t from 'tap';
import { MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY } from '../../guest/boot/mount-flags.ts';
import {
  AGENT_MOUNTS,
  DEVICE_LINKS,
  EARLY_MOUNTS,
  mountAgentAt,
  mountEarlyAt,
  mountOn,
  mountTask,
  TASK_MOUNTS,
} from '../../guest/boot/mounts.ts';
import { fakeNative, systemError } from '../lib/fake-native.ts';

const dirname = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')));

t.test('before hello there are three mounts and no other call', (t) => {
  const { native, calls } = fakeNative();
  mountEarlyAt(native, '/');
  t.strictSame(
    calls.map(([name, source, target, type]) => [name, source, target, type]),
    [
      ['mount', 'proc', '/proc', 'proc'],
      ['mount', 'sysfs', '/sys', 'sysfs'],
      ['mount', 'devtmpfs', '/dev', 'devtmpfs'],
    ],
  );
  t.end();
});

t.test('a mount point that the initramfs lacks is made', (t) => {
  const made = new Set<string>();
  const { native, only } = fakeNative(
    {},
    {
      mkdir: (path) => void made.add(path),
      mount: (_source, target) => {
        if (!made.has(target)) throw systemError('ENOENT', 'mount', target);
      },
    },
  );
  mountEarlyAt(native, '/');
  t.strictSame([...made], ['/proc', '/sys', '/dev']);
  t.equal(only('mount').length, 6);
  t.end();
});

t.test('a mount that fails names what and where', (t) => {
  const { native } = fakeNative(
    {},
    {
      mount: (_source, target) => {
        throw systemError('EPERM', 'mount', target);
      },
    },
  );
  t.throws(() => mountEarlyAt(native, '/'), {
    code: 'mount-failed',
    errno: 'EPERM',
    message: /cannot mount proc on \/proc/,
  });
  t.end();
});

t.test('tables: parents before children, devices only where they belong', (t) => {
  for (const table of [[...EARLY_MOUNTS, ...AGENT_MOUNTS], TASK_MOUNTS]) {
    const seen = new Set(['']);
    for (const { target, why } of table) {
      const ancestors = [dirname(target), dirname(dirname(target))];
      t.ok(
        ancestors.some((path) => seen.has(path)),
        `${target} has its parent before it`,
      );
      t.notOk(seen.has(target), `${target} is mounted once`);
      t.ok(why.length > 5);
      seen.add(target);
    }
  }
  for (const { type, flags, target } of [...EARLY_MOUNTS, ...AGENT_MOUNTS, ...TASK_MOUNTS]) {
    if (flags & MS_BIND) continue;
    t.ok(flags & MS_NOSUID, `${target}: nothing set-id`);
    t.equal((flags & MS_NODEV) === 0, type === 'devtmpfs' || type === 'devpts', `${target}: devices`);
  }
  const cgroup = (table: typeof TASK_MOUNTS) => table.find(({ type }) => type === 'cgroup2');
  t.ok((cgroup(TASK_MOUNTS)?.flags ?? 0) & MS_RDONLY, 'a command cannot leave its group');
  t.notOk((cgroup(AGENT_MOUNTS)?.flags ?? 0) & MS_RDONLY);
  const hiding = [...TASK_MOUNTS].filter(({ target }) => target === 'run' || target === 'tmp');
  t.strictSame(hiding, [], 'content of an image in /run and /tmp stays visible');
  t.end();
});

t.test('the task’s set is mounted through open directories, never by a path of the image', (t) => {
  const files = Object.fromEntries(TASK_MOUNTS.map(({ target }) => [target, []]));
  const { native, only, open } = fakeNative(files);
  mountTask(native, 7);
  t.strictSame(
    only('openBeneath').map(([, root, path]) => [root, path]),
    TASK_MOUNTS.map(({ target }) => [7, target]),
  );
  for (const [, , target] of only('mount')) t.match(target, /^\/proc\/self\/fd\/\d+$/);
  t.equal(open.size, 0, 'no descriptor pins a mount');
  t.end();
});

t.test('a kernel without message queues is no failure, one without shared memory is', (t) => {
  const files = Object.fromEntries(TASK_MOUNTS.map(({ target }) => [target, []]));
  const lacking = (type: string) =>
    fakeNative(files, {
      mount: (_source, target, mounted) => {
        if (mounted === type) throw systemError('ENODEV', 'mount', target);
      },
    });
  const without = lacking('mqueue');
  mountTask(without.native, 7);
  t.equal(without.open.size, 0);
  t.throws(() => mountTask(lacking('tmpfs').native, 7), {
    code: 'mount-failed',
    errno: 'ENODEV',
    message: /dev\/shm/,
  });
  t.end();
});

t.test('links in /dev: made once, found the second time', (t) => {
  const there = new Set<string>();
  const { native } = fakeNative(
    {},
    {
      symlink: (_target, path) => {
        if (there.has(path)) throw systemError('EEXIST', 'symlink', path);
        there.add(path);
      },
    },
  );
  mountAgentAt(native, '/');
  mountAgentAt(native, '/');
  t.strictSame(
    [...there],
    DEVICE_LINKS.map(([name]) => `/dev/${name}`),
  );
  const refusing = fakeNative(
    {},
    {
      symlink: () => {
        throw systemError('EROFS', 'symlink');
      },
    },
  );
  t.throws(() => mountAgentAt(refusing.native, '/'), {
    code: 'mount-failed',
    errno: 'EROFS',
    message: /\/dev\/fd/,
  });
  t.end();
});

t.test('a mount point that cannot be made, and a mount that fails, close what they opened', (t) => {
  const { native, open } = fakeNative(
    {},
    {
      openBeneath: () => {
        throw systemError('ENOTDIR', 'openat2', 'file');
      },
    },
  );
  t.throws(() => mountOn(native, 7, 'file', () => t.fail('never called')), {
    code: 'mount-failed',
    errno: 'ENOTDIR',
    message: /mount point 'file'/,
  });
  const failing = fakeNative({ data: [] });
  t.throws(
    () =>
      mountOn(failing.native, 7, 'data', () => {
        throw systemError('EINVAL', 'mount');
      }),
    { code: 'mount-failed', errno: 'EINVAL', message: /'data'/ },
  );
  t.equal(open.size + failing.open.size, 0);
  t.end();
});
