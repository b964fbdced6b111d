/**
 * Kernel file systems, as tables.
 *
 * The agent lives in the initramfs for the VM's whole life, with /proc, /sys and /dev of its own: nothing that a task
 * does to its mounts can take them from PID 1. The task's root gets a second set, which a task may change as it likes.
 *
 * Not here, on purpose: /run and /tmp. Images have content there that their programs rely on (`/run/sshd`,
 * `/run/postgresql` with its owner), as they may in Docker, and a memory file system would hide it. Both are plain
 * directories of the root: on its disk, with an honest ENOSPC, and without taking memory from the task.
 */
import type { Native } from '../../native/face.ts';
import { fromNative, hasErrno } from '../errors.ts';
import { makeDirectories } from '../lib/beneath.ts';
import { MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY } from './mount-flags.ts';

export interface KernelMount {
  /** As in /proc/mounts; for a bind, the absolute path of the source. */
  source: string;
  /** Beneath the root that it is for, without a leading slash. */
  target: string;
  /** null: a bind of what the agent has mounted. */
  type: string | null;
  flags: number;
  data: string | null;
  why: string;
  /** A kernel may lack it (ENODEV): the VM works without. */
  optional?: boolean;
}

const SEALED = MS_NOSUID | MS_NODEV | MS_NOEXEC;

/** Before hello: what finding and opening the ports takes, and nothing else. */
export const EARLY_MOUNTS: KernelMount[] = [
  { source: 'proc', target: 'proc', type: 'proc', flags: SEALED, data: null, why: 'memory, own descriptors' },
  {
    source: 'sysfs',
    target: 'sys',
    type: 'sysfs',
    flags: SEALED,
    data: null,
    why: 'ports and disks by their names',
  },
  {
    source: 'devtmpfs',
    target: 'dev',
    type: 'devtmpfs',
    flags: MS_NOSUID,
    // One file system for agent and task. Without a limit, files that stray into /dev could take half of the memory.
    data: 'mode=0755,size=4m',
    why: 'nodes made by the kernel; executable, because programs map /dev/zero with PROT_EXEC',
  },
];

/** The agent's own, after hello. */
export const AGENT_MOUNTS: KernelMount[] = [
  {
    source: 'cgroup2',
    target: 'sys/fs/cgroup',
    type: 'cgroup2',
    flags: SEALED,
    data: null,
    why: 'one group a command: writable here, read-only for the task',
  },
  {
    source: 'devpts',
    target: 'dev/pts',
    type: 'devpts',
    flags: MS_NOSUID | MS_NOEXEC,
    // gid 5 is tty in every distribution; every mount of devpts is an instance of its own, hence the bind below.
    data: 'gid=5,mode=0620,ptmxmode=0666',
    why: 'terminals',
  },
];

/** The task's root, parents before children. */
export const TASK_MOUNTS: KernelMount[] = [
  {
    source: 'proc',
    target: 'proc',
    type: 'proc',
    flags: SEALED,
    data: null,
    why: 'every program expects it',
  },
  { source: 'sysfs', target: 'sys', type: 'sysfs', flags: SEALED, data: null, why: 'devices, CPUs' },
  {
    source: 'cgroup2',
    target: 'sys/fs/cgroup',
    type: 'cgroup2',
    flags: SEALED | MS_RDONLY,
    data: null,
    why: 'run times (Java, Go, .NET) read their limits there; read-only, so that a command stays in its group',
  },
  {
    source: 'devtmpfs',
    target: 'dev',
    type: 'devtmpfs',
    flags: MS_NOSUID,
    data: 'mode=0755,size=4m',
    why: 'the same nodes as the agent sees',
  },
  {
    source: '/dev/pts',
    target: 'dev/pts',
    type: null,
    flags: MS_BIND,
    data: null,
    why: 'ttyname(3) must find them',
  },
  {
    source: 'shm',
    target: 'dev/shm',
    type: 'tmpfs',
    flags: MS_NOSUID | MS_NODEV,
    // The kernel's own default, written out. Pages count against the writing command's group, whose limit lies
    // below the VM's memory: filling it ends in ENOSPC or with that command, never with the VM.
    data: 'mode=1777,size=50%',
    why: 'shared memory of shm_open(3)',
  },
  {
    source: 'mqueue',
    target: 'dev/mqueue',
    type: 'mqueue',
    flags: SEALED,
    data: null,
    why: 'POSIX message queues',
    optional: true,
  },
];

/** Links in /dev that POSIX programs and shells expect, as udev makes them. /dev/ptmx is a node of devtmpfs. */
export const DEVICE_LINKS: [name: string, target: string][] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['core', '/proc/kcore'],
];

/** Mounts what hello needs. @throws {GuestError} mount-failed */
export function mountEarly(native: Native): void {
  mountEarlyAt(native, '/');
}

/** {@link mountEarly} in a directory that plays the initramfs' root; `root` ends with a slash. */
export function mountEarlyAt(native: Native, root: string): void {
  for (const entry of EARLY_MOUNTS) mountEntry(native, entry, `${root}${entry.target}`);
}

/** Mounts the rest of the agent's own and links the names in /dev, which the task shares. @throws {GuestError} mount-failed */
export function mountAgent(native: Native): void {
  mountAgentAt(native, '/');
}

/** {@link mountAgent} in a directory that plays the initramfs' root; `root` ends with a slash. */
export function mountAgentAt(native: Native, root: string): void {
  for (const entry of AGENT_MOUNTS) mountEntry(native, entry, `${root}${entry.target}`);
  for (const [name, target] of DEVICE_LINKS) {
    try {
      native.symlink(target, `${root}dev/${name}`);
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw fromNative('mount-failed', `cannot link /dev/${name}`, error);
    }
  }
}

/** Mounts the task's set beneath its root; directories that the image lacks are made. @throws {GuestError} mount-failed */
export function mountTask(native: Native, rootFd: number): void {
  mountTaskWith(native, rootFd, TASK_MOUNTS);
}

/** {@link mountTask} with a table of one's own. */
export function mountTaskWith(native: Native, rootFd: number, table: KernelMount[]): void {
  for (const entry of table) {
    mountOn(native, rootFd, entry.target, (target) => attach(native, entry, target));
  }
}

/**
 * Calls `mount` with a path that leads to the directory `path` beneath `rootFd` and nowhere else: the directory is
 * opened first, so no link of the image, planted or swapped meanwhile, decides where something is mounted.
 * @throws {GuestError} mount-failed
 */
export function mountOn(native: Native, rootFd: number, path: string, mount: (target: string) => void): void {
  let fd: number;
  try {
    fd = makeDirectories(native, rootFd, path, 0o755);
  } catch (error) {
    throw fromNative('mount-failed', `cannot make the mount point '${path}'`, error);
  }
  try {
    mount(`/proc/self/fd/${fd}`);
  } catch (error) {
    throw fromNative('mount-failed', `cannot mount on '${path}'`, error);
  } finally {
    native.close(fd);
  }
}

/** Mounts at a path of the initramfs, which is ours: the directory is made only when it turns out to be missing. */
function mountEntry(native: Native, entry: KernelMount, target: string): void {
  try {
    try {
      attach(native, entry, target);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
      native.mkdir(target, 0o755);
      attach(native, entry, target);
    }
  } catch (error) {
    throw fromNative('mount-failed', `cannot mount ${entry.source} on ${target}`, error);
  }
}

function attach(native: Native, { source, type, flags, data, optional }: KernelMount, target: string): void {
  try {
    native.mount(source, target, type, flags, data);
  } catch (error) {
    if (!optional || !hasErrno(error, 'ENODEV')) throw error;
  }
}
