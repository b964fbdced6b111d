/** Pure parts of starting a command: environment defaults, PATH search, resource limits. */
import type { ResourceLimit } from '../../native/face.ts';
import { GuestError } from '../errors.ts';

/** PATH of a command whose environment has none: Docker's default. */
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** RLIMIT_* numbers of x86-64 and arm64 Linux (asm-generic/resource.h), by their names in lower case. */
const RLIMITS: Record<string, number> = {
  cpu: 0,
  fsize: 1,
  data: 2,
  stack: 3,
  core: 4,
  rss: 5,
  nproc: 6,
  nofile: 7,
  memlock: 8,
  as: 9,
  locks: 10,
  sigpending: 11,
  msgqueue: 12,
  nice: 13,
  rtprio: 14,
  rttime: 15,
};

/** Value of `name` in a `KEY=value` list; the last one wins, as in execve'd shells. */
export function environmentValue(env: readonly string[], name: string): string | undefined {
  const prefix = `${name}=`;
  for (let i = env.length - 1; i >= 0; i--) {
    const entry = env[i] as string;
    if (entry.startsWith(prefix)) return entry.slice(prefix.length);
  }
  return undefined;
}

/** The environment with PATH and HOME added when they are missing, as docker does; TERM too on a terminal. */
export function completeEnvironment(env: readonly string[], home: string, terminal: boolean): string[] {
  const complete = [...env];
  const want = (name: string, value: string) => {
    if (environmentValue(env, name) === undefined) complete.push(`${name}=${value}`);
  };
  want('PATH', DEFAULT_PATH);
  want('HOME', home);
  if (terminal) want('TERM', 'xterm');
  return complete;
}

/**
 * Paths to try for a command name, in order: itself when it has a slash, else each element of PATH (empty = current
 * directory). No name is found nowhere, as in execvp(3): joined to PATH it would be a directory.
 */
export function executableCandidates(name: string, path: string): string[] {
  if (name === '' || name.includes('/')) return [name];
  return path.split(':').map((directory) => (directory === '' ? `./${name}` : `${directory}/${name}`));
}

/** Named limits → the addon's triples. @throws {GuestError} bad-request for an unknown name. */
export function resourceLimits(limits: Record<string, [number, number]> | undefined): ResourceLimit[] {
  return Object.entries(limits ?? {}).map(([name, [soft, hard]]) => {
    const resource = RLIMITS[name];
    if (resource === undefined) throw new GuestError('bad-request', `unknown resource limit '${name}'`);
    return [resource, soft, hard];
  });
}
