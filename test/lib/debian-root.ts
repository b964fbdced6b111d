/** A bare Debian 12 in memory: what a new machine has. Made once by debootstrap, then kept in build/cache as an archive. */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const CACHE = resolve(import.meta.dirname, '../../build/cache/debian-root');
const ARCHIVE = join(CACHE, 'bookworm.tar');
/** What apt fetched: a second run downloads nothing. */
const PACKAGES = join(CACHE, 'packages');
/** Longest for debootstrap, or for installing packages over a slow line, milliseconds. */
const DEADLINE = 400_000;

/** Why none can be made here; false: it can. */
export function noDebianRoot(): string | false {
  if (process.getuid?.() !== 0) return 'needs root, for chroot and mounts';
  if (existsSync(ARCHIVE)) return false;
  return spawnSync('debootstrap', ['--version']).error
    ? 'needs debootstrap: apt-get install debootstrap'
    : false;
}

export interface InsideResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface DebianRoot {
  /** Its path outside. */
  path: string;
  /** A program and its words, as root. @throws {Error} with what it wrote when it fails */
  asRoot(...words: string[]): string;
  /** As the unprivileged user, in the home folder, with nothing in the environment but `env` and what a login sets. */
  asUser(words: readonly string[], env?: Record<string, string>): InsideResult;
  /** The words before a program's that make it the user's, and its environment. */
  user: { through: string[]; env: Record<string, string> };
  /** The user's home, inside. */
  home: string;
}

const USER = { name: 'joe', id: '1000' };
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Unpacks one into `folder`, an empty one on a file system of its own. Call it in a mount namespace ({@link inNamespaces}): its mounts, and
 * the folder, are gone with that, whatever happens to the test.
 */
export function debianRoot(folder: string): DebianRoot {
  mkdirSync(PACKAGES, { recursive: true });
  if (!existsSync(ARCHIVE)) bootstrap(folder);
  else execFileSync('tar', ['-xpf', ARCHIVE, '-C', folder, '--numeric-owner']);
  copyFileSync('/etc/resolv.conf', join(folder, 'etc/resolv.conf'));
  copyFileSync('/etc/hosts', join(folder, 'etc/hosts'));
  for (const name of ['dev', 'sys']) execFileSync('mount', ['--rbind', `/${name}`, join(folder, name)]);
  execFileSync('mount', ['-t', 'proc', 'proc', join(folder, 'proc')]);
  execFileSync('mount', ['--bind', PACKAGES, join(folder, 'var/cache/apt/archives')]);
  // apt fetches as this user, who may not enter a folder of root's.
  writeFileSync(join(folder, 'etc/apt/apt.conf.d/test'), 'APT::Sandbox::User "root";\n');

  const asRoot = (...words: string[]) =>
    execFileSync('chroot', [folder, ...words], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: DEADLINE,
      env: { PATH, HOME: '/root', LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    });
  asRoot('useradd', '--create-home', '--uid', USER.id, USER.name);
  const home = `/home/${USER.name}`;
  const inHome = ['sh', '-c', `cd ${home} && exec "$@"`, 'sh'];
  const user = {
    through: ['chroot', `--userspec=${USER.id}:${USER.id}`, '--groups=', folder, ...inHome],
    env: { PATH, HOME: home, USER: USER.name },
  };
  return {
    path: folder,
    home,
    user,
    asRoot,
    asUser(words, env = {}) {
      const [file, ...before] = user.through;
      const options = { encoding: 'utf8', timeout: DEADLINE, env: { ...user.env, ...env } } as const;
      const { status, stdout, stderr, error } = spawnSync(file as string, [...before, ...words], options);
      if (error) throw error;
      return { code: status, stdout, stderr };
    },
  };
}

/** Debian's smallest set of packages, from where this machine's apt takes Debian 12; kept for the next time. */
function bootstrap(folder: string): void {
  const words = ['--variant=minbase', `--cache-dir=${PACKAGES}`, 'bookworm', folder, site() as string];
  execFileSync('debootstrap', words, { stdio: ['ignore', 'ignore', 'inherit'], timeout: DEADLINE });
  const fresh = `${ARCHIVE}.${process.pid}.new`;
  const parts = ['--exclude=./var/cache/apt/archives/*.deb', '--exclude=./dev/*', '--numeric-owner'];
  execFileSync('tar', ['-cf', fresh, '-C', folder, ...parts, '.']);
  renameSync(fresh, ARCHIVE);
}

function site(): string | undefined {
  const words = ['indextargets', '--format', '$(SITE) $(CODENAME) $(COMPONENT)', 'Created-By: Packages'];
  const { stdout } = spawnSync('apt-get', words, { encoding: 'utf8' });
  const line = (stdout ?? '').split('\n').find((each) => each.endsWith(' bookworm main'));
  return line?.split(' ')[0];
}
