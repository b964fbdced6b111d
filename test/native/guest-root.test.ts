/** The task's root on real file systems: squashfs layers, an ext4 upper disk, volumes, programs in it, and its end. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { applyIdentity } from '../../guest/boot/identity.ts';
import type { ModuleLoader } from '../../guest/boot/modules.ts';
import { type KernelMount, mountTaskWith, TASK_MOUNTS } from '../../guest/boot/mounts.ts';
import {
  buildRootAt,
  enterRootAt,
  type Places,
  type RootSpec,
  type TaskRoot,
} from '../../guest/boot/root.ts';
import { unmountAll } from '../../guest/boot/teardown.ts';
import { mountVolumesWith } from '../../guest/boot/volumes.ts';
import type { MountSpec } from '../../guest/protocol/messages.ts';
import { loadNative } from '../../native/load.ts';
import { inNamespaces } from '../lib/namespaces.ts';

inNamespaces(import.meta.url);
// The runner has a deadline for the whole file.
t.setTimeout(0);
// As the kernel starts PID 1.
process.umask(0o022);

const native = loadNative();
const top = mkdtempSync(join(tmpdir(), 'yavm-root-'));
const BUSYBOX = '/bin/busybox';
const loops: string[] = [];
t.teardown(() => {
  // What a failed test left mounted; the namespace would take it off, but only after this.
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '');
  for (const path of mounts.reverse()) if (path.startsWith(top)) spawnSync('umount', ['-l', path]);
  for (const loop of loops) spawnSync('losetup', ['-d', loop]);
  rmSync(top, { recursive: true, force: true });
});

const tool = (name: string, ...args: string[]) =>
  execFileSync(name, args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();

/** Why disks cannot be tried here; null when they can. */
function lacksDisks(): string | null {
  const types = readFileSync('/proc/filesystems', 'utf8');
  for (const type of ['ext4', 'squashfs', 'overlay'])
    if (!types.includes(`${type}\n`)) return `this kernel has no ${type}`;
  return existsSync('/dev/loop-control') ? null : 'this machine has no loop devices';
}

/** A block device over a file. */
function loopDevice(file: string): string {
  const loop = tool('losetup', '--find', '--show', file).trim();
  loops.push(loop);
  return loop;
}

/** A squashfs of `files`: path → content, `null` for a directory. */
function makeLayer(name: string, files: Record<string, string | null>, mode = 0o755): string {
  const tree = join(top, `${name}.tree`);
  mkdirSync(tree, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(tree, content === null ? path : join(path, '..')), { recursive: true });
    if (content !== null) writeFileSync(join(tree, path), content);
  }
  tool('chmod', mode.toString(8), tree);
  const image = join(top, `${name}.squashfs`);
  tool('mksquashfs', tree, image, '-quiet', '-noappend', '-all-root', '-comp', 'gzip');
  return loopDevice(image);
}

/** The host's recipe for an upper disk (docs: one ext4 file, made without root). */
function makeDisk(name: string, size = '64M'): { image: string; device: string } {
  const image = join(top, `${name}.ext4`);
  tool('truncate', '-s', size, image);
  const features = 'lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0';
  tool('mke2fs', '-q', '-t', 'ext4', '-m', '0', '-i', '65536', '-J', 'size=4', '-E', features, image);
  return { image, device: loopDevice(image) };
}

/** Modules are the kernel's own here. */
const modules = { loadFor: () => {}, load: () => {}, loadOptional: () => true } as unknown as ModuleLoader;
const context = { native, modules };

/** The machine's own devices must not be touched: /dev is a memory file system with one node. */
const table: KernelMount[] = TASK_MOUNTS.filter(({ type }) => type !== null).map((entry) =>
  entry.type === 'devtmpfs' ? { ...entry, type: 'tmpfs', data: 'mode=0755' } : entry,
);

/** A path of the root for other programs. */
const within = (root: TaskRoot, name: string) => `/proc/${process.pid}/fd/${root.fd}/${name}`;

let machines = 0;
/** Directories that play the initramfs. */
function places(): Places {
  const base = join(top, `vm-${machines++}`);
  mkdirSync(base);
  return { layers: `${base}/l`, upper: `${base}/u`, volumes: `${base}/v`, newRoot: `${base}/r` };
}

interface Vm {
  root: TaskRoot;
  /** Runs a shell command in the root; its output, or what went wrong. */
  sh(command: string): string;
}

function boot(spec: RootSpec, disks: Map<string, string>, volumes: MountSpec[] = []): Vm {
  const root = buildRootAt(context, spec, disks, places());
  mountTaskWith(native, root.fd, table);
  mountVolumesWith(context, root, volumes, disks);
  const final = join(top, `root-${machines}`);
  mkdirSync(final);
  enterRootAt(native, root, final);
  applyIdentity(native, root.fd, 'test-vm');
  const sh = (command: string): string => {
    const { stdout, stderr, status } = spawnSync('chroot', [
      `/proc/${process.pid}/fd/${root.fd}`,
      '/bin/sh',
      '-c',
      command,
    ]);
    return status === 0 ? String(stdout).trimEnd() : `status ${status}: ${stdout}${stderr}`;
  };
  return { root, sh };
}

t.test('layers and an upper disk: a root that programs can live in', { skip: lacksDisks() ?? false }, (t) => {
  const base = join(top, 'base.tree');
  mkdirSync(join(base, 'bin'), { recursive: true });
  tool('cp', BUSYBOX, join(base, 'bin/busybox'));
  for (const name of [
    'sh',
    'cat',
    'ls',
    'mv',
    'ln',
    'stat',
    'dd',
    'touch',
    'rm',
    'sync',
    'df',
    'mkdir',
    'grep',
    'mknod',
    'umount',
    'mount',
    'hostname',
  ]) {
    tool('ln', '-sf', 'busybox', join(base, 'bin', name));
  }
  const lower = makeLayer('base', {
    'etc/machine-id': '',
    'run/image/pid': 'x',
    'dir/f': 'lower',
    who: 'lower',
    'tmp/kept': 'x',
    'only/lower': 'l',
  });
  const upper = makeLayer('top', { who: 'upper', 'etc/hostname': 'image\n' }, 0o711);
  const { image, device } = makeDisk('upper');
  const data = makeDisk('data', '16M');
  const disks = new Map([
    ['base', lower],
    ['top', upper],
    ['disk', device],
    ['data', data.device],
  ]);
  const spec = { layers: [{ serial: 'top' }, { serial: 'base' }], upper: { serial: 'disk' } };
  const { root, sh } = boot(spec, disks, [
    { kind: 'ram', path: '/vol/inner/ram', size: 1 << 20 },
    { kind: 'disk', serial: 'data', path: '/vol' },
    { kind: 'directory', path: '/only', mode: 0o1777 },
  ]);

  t.equal(sh('cat /who'), 'upper', 'the first layer is on top');
  t.equal(sh('cat /dir/f /run/image/pid /tmp/kept'), 'lowerxx', 'content of /run and /tmp is the image’s');
  t.equal(sh('stat -c %a /'), '711', 'the root has the topmost layer’s mode');
  t.equal(sh('stat -c %a /var/tmp /proc /etc'), '1777\n555\n755', 'what no layer has is made');
  t.equal(sh('ls -d /upper /lost+found 2>/dev/null; echo'), '', 'nothing of the disk’s own shows');

  t.equal(sh('mv /dir /moved && cat /moved/f'), 'lower', 'a directory of the image can be renamed');
  t.equal(sh('touch /a && ln /a /b && stat -c %h /a'), '2');
  t.match(
    sh('mknod /null c 1 3 && cat /null'),
    /status 1: .*(Permission denied|not permitted)/,
    'device nodes are dead',
  );
  t.match(sh('while cat /bin/busybox; do :; done > /big; false'), /No space left/, 'a full disk is ENOSPC');
  t.equal(sh('rm -f /big && touch /again && echo fine'), 'fine');

  t.equal(sh('cat /etc/hostname; hostname'), 'test-vm\ntest-vm');
  t.match(sh('cat /etc/machine-id'), /^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  t.match(sh('cat /proc/mounts'), / \/dev\/shm tmpfs .*\n/);
  t.match(sh('mkdir /sys/fs/cgroup/x'), /Read-only/);
  t.equal(sh('stat -c %a /only /vol/inner/ram'), '1777\n1777');
  t.equal(sh('cat /only/lower'), 'l', 'a directory volume shows the image’s files');
  t.equal(sh('df /vol/inner/ram | grep -c "^ram"'), '1', 'the inner volume is not hidden by the outer');

  t.equal(
    sh('echo data > /vol/file && sync /vol/file 2>/dev/null; echo text > /kept && sync; cat /vol/file'),
    'data',
  );
  t.equal(sh('umount /vol/inner/ram && umount /vol && echo off'), 'off', 'a task may unmount what it sees');
  t.equal(sh('mount -t tmpfs mine /vol && touch /vol/x && echo on'), 'on');

  t.strictSame(root.writable.length, 2);
  t.strictSame(unmountAll(native, root), []);
  for (const file of [image, data.image]) {
    const check = spawnSync('e2fsck', ['-f', '-n', file]);
    t.equal(check.status, 0, String(check.stdout));
    t.match(tool('dumpe2fs', '-h', file), /Filesystem state: +clean/);
    t.notMatch(tool('dumpe2fs', '-h', file), /needs_recovery/, 'the journal is empty');
  }
  t.equal(tool('debugfs', '-R', 'cat /upper/kept', image), 'text\n');
  t.equal(tool('debugfs', '-R', 'cat /file', data.image), 'data\n');

  const again = boot(spec, disks, [{ kind: 'disk', serial: 'data', path: '/data', readOnly: true }]);
  t.equal(
    again.sh('cat /kept /data/file /moved/f'),
    'text\ndata\nlower',
    'everything is there the next time',
  );
  t.match(again.sh('touch /data/new'), /Read-only/);
  t.strictSame(unmountAll(native, again.root), []);
  t.end();
});

t.test(
  'for what runs in the root it is no chroot: user namespaces work',
  { skip: lacksDisks() ?? false },
  (t) => {
    const { root } = boot({ layers: [], upper: { ram: 64 << 20 } }, new Map());
    // Over the real root of this mount namespace, as in a VM.
    enterRootAt(native, { ...root, places: { ...root.places, newRoot: join(top, `root-${machines}`) } }, '/');
    tool('cp', BUSYBOX, within(root, 'busybox'));
    t.ok(existsSync('/proc/self/stat') && existsSync(BUSYBOX), 'the agent keeps its own view');
    const { pid, pidfd } = native.spawn({
      file: ['/busybox'],
      argv: ['busybox', 'unshare', '--user', '/busybox', 'true'],
      env: [],
      fds: [[2, 2]],
      rootFd: root.fd,
    });
    native.close(pidfd);
    let status = native.waitPid(pid);
    while (status === null) status = native.waitPid(pid);
    t.equal(status.code, 0);
    t.strictSame(unmountAll(native, root), []);
    t.ok(existsSync(BUSYBOX));
    t.end();
  },
);

t.test('an image cannot turn a mount aside', { skip: lacksDisks() ?? false }, (t) => {
  const outside = join(top, 'outside');
  mkdirSync(outside);
  const spec: RootSpec = { layers: [], upper: { ram: 1 << 20 } };
  const where = places();
  const root = buildRootAt(context, spec, new Map(), where);
  const path = (name: string) => within(root, name);
  tool('ln', '-s', outside, path('link'));
  tool('ln', '-s', '../../../../../../..', path('up'));
  const ram = (target: string): MountSpec => ({ kind: 'ram', size: 1 << 16, path: target });
  t.throws(
    () => mountVolumesWith(context, root, [ram('/link')], new Map()),
    { code: 'mount-failed' },
    'a dangling link',
  );
  mountVolumesWith(context, root, [ram('/up/in/side'), ram('/../../top')], new Map());
  t.ok(statSync(path('in/side')).isDirectory() && statSync(path('top')).isDirectory());
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('ram '));
  t.strictSame(
    mounts.map((line) => line.split(' ')[1]),
    [`${where.newRoot}/top`, `${where.newRoot}/in/side`],
  );
  writeFileSync(path('file'), '');
  t.throws(() => mountVolumesWith(context, root, [ram('/file')], new Map()), {
    code: 'mount-failed',
    errno: 'ENOTDIR',
  });
  t.strictSame(unmountAll(native, root), []);
  t.end();
});

t.test(
  'files of the name that are links are replaced, not followed',
  { skip: lacksDisks() ?? false },
  (t) => {
    const root = buildRootAt(context, { layers: [], upper: { ram: 1 << 20 } }, new Map(), places());
    const victim = join(top, 'victim');
    writeFileSync(victim, 'untouched');
    tool('ln', '-s', victim, within(root, 'etc/hostname'));
    applyIdentity(native, root.fd, 'vm-2');
    t.equal(readFileSync(victim, 'utf8'), 'untouched');
    t.equal(readFileSync(within(root, 'etc/hostname'), 'utf8'), 'vm-2\n');
    t.strictSame(unmountAll(native, root), []);
    t.end();
  },
);

t.test(
  'a disk that is still written to: the end says so, and the rest goes on',
  { skip: lacksDisks() ?? false },
  (t) => {
    const busy = makeDisk('busy');
    const { root, sh } = boot({ layers: [], upper: { serial: 'busy' } }, new Map([['busy', busy.device]]));
    t.match(sh('true'), /status 127/, 'an empty root has no shell');
    const fd = native.openBeneath(root.fd, 'held', 0o101, 0o644);
    t.match(unmountAll(native, root), [/making .* read-only: .*EBUSY/]);
    closeSync(fd);
    t.end();
  },
);
