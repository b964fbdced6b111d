/**
 * Paths, links and archives that try to lead a `container:` transfer out of the task's root, and what comes of each. Paths
 * are as the guest gets them: decoded, if they were in a URL. All is resolved beneath the task's root, or refused.
 */
import type { Item } from './tar.ts';

export interface ContainerEscape {
  kind: 'container';
  what: string;
  /** Shell in the VM, before. `/jail` is there for all; it is what archives are unpacked into, and holds nothing else. */
  plant?: string;
  op: 'read' | 'write';
  path: string;
  /** Entries of a tar that is written to `path`; a read of a tar where it is empty. */
  tar?: Item[];
  outcome: Outcome;
}

/**
 * `refused`: fails with this errno, or as a bad archive. `reaches`: this file of the task's root is what was read, or is there
 * after the write. `harmless`: what the archive holds is unpacked, and nothing but /jail has changed.
 */
export type Outcome = { refused: string } | { reaches: string } | { harmless: true };

const refused = (errno: string): Outcome => ({ refused: errno });
const reaches = (path: string): Outcome => ({ reaches: path });
const harmless: Outcome = { harmless: true };
const BAD_ARCHIVE = refused('bad-archive');

const read = (what: string, path: string, outcome: Outcome, plant?: string): ContainerEscape => ({
  ...{ kind: 'container', op: 'read' },
  ...{ what, path, outcome, plant },
});
const write = (what: string, path: string, outcome: Outcome, plant?: string): ContainerEscape => ({
  ...{ kind: 'container', op: 'write' },
  ...{ what, path, outcome, plant },
});
const readTree = (what: string, path: string, outcome: Outcome, plant?: string): ContainerEscape => ({
  ...read(what, path, outcome, plant),
  tar: [],
});
const unpack = (what: string, tar: Item[], outcome: Outcome, plant?: string): ContainerEscape => ({
  ...write(what, '/jail', outcome, plant),
  tar,
});

const evil = Buffer.from('evil');
const file = (name: string): Item => ({ name, content: evil });
const link = (name: string, linkName: string): Item => ({ name, type: 'symlink', linkName });
const hardLink = (name: string, linkName: string): Item => ({ name, type: 'hardLink', linkName });

/** Forty links one behind the other are followed, as the kernel does; one more is not. */
const chain = (links: number) =>
  `mkdir -p /chain; cd /chain; ln -sfn /etc/passwd 0; for i in $(seq ${links - 1}); do ln -sfn $((i - 1)) $i; done`;

export const CONTAINER_ESCAPES: ContainerEscape[] = [
  // ---- parent directories
  read('parents of the root are the root', '/../../../etc/passwd', reaches('/etc/passwd')),
  read('parents in the middle', '/proc/../../../etc/passwd', reaches('/etc/passwd')),
  read('no slash at the beginning', 'etc/passwd', reaches('/etc/passwd')),
  read('slashes and dots', '//./etc/.//passwd', reaches('/etc/passwd')),
  read('the agent by parents', '/../init', refused('ENOENT')),
  read('an encoded parent is a name', '/%2e%2e/init', refused('ENOENT')),
  read('an encoded slash is a name', '/..%2finit', refused('ENOENT')),
  read('backslashes are a name', '\\..\\..\\init', refused('ENOENT')),
  write('parents of the root', '/../../climbed', reaches('/climbed')),
  write('encoded parents', '/%2e%2e/%2e%2e/encoded', reaches('/%2e%2e/%2e%2e/encoded')),
  write('nothing but parents', '/../..', refused('EISDIR')),
  write('parents at the end', '/etc/..', refused('EISDIR')),
  write('a directory by its slash', '/jail/', refused('EISDIR')),
  write('a new directory by its slash', '/jail/new/', refused('EISDIR')),

  // ---- what is mounted for the root, but is not in it
  read('the layers', '/layers/0/etc/passwd', refused('ENOENT')),
  read('the layers by parents', '/../layers/0/etc/passwd', refused('ENOENT')),
  readTree('the writable disk', '/upper', refused('ENOENT')),
  write('the writable disk', '/upper/upper/planted', reaches('/upper/upper/planted')),
  write('the agent', '/init', reaches('/init')),

  // ---- symbolic links
  read('an absolute link', '/l/passwd', reaches('/etc/passwd'), 'mkdir -p /l; ln -sfn /etc/passwd /l/passwd'),
  read('a link to the root', '/l/root/../../etc/passwd', reaches('/etc/passwd'), 'ln -sfn / /l/root'),
  read('a climbing link', '/l/up/passwd', reaches('/etc/passwd'), 'ln -sfn ../../../../../etc /l/up'),
  read('a link to the agent', '/l/init', refused('ENOENT'), 'rm -f /init; ln -sfn ../../init /l/init'),
  read('a chain of 40 links', '/chain/39', reaches('/etc/passwd'), chain(40)),
  read('a chain of 41 links', '/chain/40', refused('ELOOP'), chain(41)),
  read('a loop', '/l/loop', refused('ELOOP'), 'ln -sfn loop /l/loop'),
  read('a loop of two', '/l/a/x', refused('ELOOP'), 'ln -sfn b /l/a; ln -sfn a /l/b'),
  write('a dangling link', '/l/new', reaches('/made-here'), 'ln -sfn /made-here /l/new'),
  write('a climbing link', '/l/up/up-file', reaches('/etc/up-file')),
  write(
    'a link that climbs and dangles',
    '/l/far',
    reaches('/far/away'),
    'ln -sfn ../../../../far/away /l/far',
  ),
  write('a loop', '/l/loop', refused('ELOOP')),
  write('a chain of 41 links', '/chain/40', refused('ELOOP')),

  // ---- magic links: what a process has open, its root, its program
  read('the root of the agent', '/proc/1/root/init', refused('ELOOP')),
  read('its own root', '/proc/self/root/init', refused('ELOOP')),
  read('a thread’s root', '/proc/thread-self/root/init', refused('ELOOP')),
  read('a task’s root', '/proc/1/task/1/root/init', refused('ELOOP')),
  read('the agent’s directory', '/proc/1/cwd/init', refused('ELOOP')),
  read('the agent’s program', '/proc/1/exe', refused('ELOOP')),
  read('the descriptor of the root', '/proc/self/fd/4/../init', refused('ELOOP')),
  read('its standard input', '/dev/stdin', refused('ELOOP')),
  read('a descriptor by /dev', '/dev/fd/4/etc/passwd', refused('ELOOP')),
  read('a link to a magic link', '/l/magic/init', refused('ELOOP'), 'ln -sfn /proc/1/root /l/magic'),
  readTree('the root of the agent', '/proc/1/root/', refused('ELOOP')),
  readTree('its directory', '/proc/1/cwd/.', refused('ELOOP')),
  readTree('the layers by a magic link', '/l/magic/layers', refused('ELOOP')),
  write('the root of the agent', '/proc/1/root/planted', refused('ELOOP')),
  write('its directory', '/proc/1/cwd/planted', refused('ELOOP')),
  write('a link to a magic link', '/l/magic/planted', refused('ELOOP')),
  write('a new directory behind it', '/l/magic/new/planted', refused('ELOOP')),
  write('a descriptor', '/proc/self/fd/4/planted', refused('ELOOP')),
  write('standard output', '/dev/stdout', refused('EINVAL')),

  // ---- what is no file
  read('the disk', '/dev/vda', refused('EINVAL')),
  read('memory without end', '/dev/zero', refused('EINVAL')),
  read('a terminal', '/dev/tty', refused('ENXIO')),
  read('a directory', '/etc', refused('EISDIR')),
  read('a fifo', '/l/fifo', refused('EINVAL'), 'rm -f /l/fifo; mkfifo /l/fifo'),
  write('the disk', '/dev/vda', refused('EINVAL')),
  write('a fifo', '/l/fifo', refused('EINVAL')),
  write('a directory', '/etc', refused('EISDIR')),
  write('behind a file', '/etc/passwd/planted', refused('ENOTDIR')),
  write('a switch of the kernel', '/proc/sysrq-trigger', refused('ENOENT')),
  write('what the kernel runs for a core', '/proc/sys/kernel/core_pattern', refused('ENOENT|EACCES|EPERM')),
  write('a cgroup', '/sys/fs/cgroup/planted', refused('EROFS')),

  // ---- archives
  unpack('a name that climbs', [file('../planted')], BAD_ARCHIVE),
  unpack('a name that climbs in the middle', [file('a/../../planted')], BAD_ARCHIVE),
  unpack('an absolute name', [file('/planted')], harmless),
  unpack('an encoded name', [file('%2e%2e/planted')], harmless),
  unpack('a link to the root', [link('out', '/'), file('out/planted')], harmless),
  unpack('a link that climbs', [link('up', '../../..'), file('up/planted')], harmless),
  unpack('a link to the agent', [link('magic', '/proc/1/root'), file('magic/planted')], refused('ENOENT')),
  unpack('a file through a link of its name', [link('f', '../etc/passwd'), file('f')], harmless),
  unpack(
    'a directory that changes one outside',
    [link('d', '../etc'), { name: 'd', type: 'directory', mode: 0, uid: 77 }],
    harmless,
  ),
  unpack('a hard link that climbs', [hardLink('h', '../etc/passwd')], BAD_ARCHIVE),
  unpack('a hard link to outside', [hardLink('h', '/etc/passwd')], refused('ENOENT')),
  unpack('a hard link through a link', [link('up', '..'), hardLink('h', 'up/etc/passwd')], refused('ENOENT')),
  unpack(
    'a hard link to a link, and a file through it',
    [link('s', '/etc/passwd'), hardLink('h', 's'), file('h')],
    harmless,
  ),
  unpack('a planted link', [file('there/planted')], refused('ENOENT'), 'ln -sfn /l /jail/there'),
  unpack('a planted link of the file’s name', [file('pw')], harmless, 'ln -sfn /etc/passwd /jail/pw'),
  unpack(
    'the disk as a device',
    [{ name: 'vda', type: 'block', major: 254, minor: 0, mode: 0o666 }],
    harmless,
  ),
  { ...unpack('magic links of the root', [file('proc/1/root/planted')], refused('ELOOP')), path: '/' },
  {
    ...unpack('into a directory behind a magic link', [file('planted')], refused('ELOOP')),
    path: '/proc/1/root/new',
  },
  { ...unpack('into the root of all by parents', [file('unpacked')], reaches('/unpacked')), path: '/../..' },
];
