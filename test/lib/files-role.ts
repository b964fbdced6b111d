/** Runs the files role as the agent does: a child with the task's root on descriptor 4, its result on 3, on 5 whether its input is whole. */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { FilesReply, WireError } from '../../guest/protocol/messages.ts';

const HOST = fileURLToPath(new URL('files-role-host.ts', import.meta.url));
const INIT = fileURLToPath(new URL('../../build/out/init', import.meta.url));
/** A role that hangs (on a fifo, say) is a failure. */
const TIMEOUT = 60_000;

/** What the role can run in. `/init` is the one that counts; Node is there without a build of it. */
export const ROLE_HOSTS: Record<string, string[]> = {
  node: [process.execPath, '--disable-warning=ExperimentalWarning', HOST],
  ...(existsSync(INIT) ? { init: [INIT, '--role', 'files'] } : {}),
};

export interface RoleResult extends Partial<FilesReply> {
  status: number | null;
  output: Buffer;
  error?: WireError;
}

/**
 * Runs the role with `root` as the task's root; `input` is what comes in on descriptor 0, and `whole` what a role
 * with `--whole 5` finds there at its end: a byte, or nothing. Its output is a socket, or a pipe, which takes pages; then
 * the status is the reader's.
 */
export function runRole(
  host: string,
  root: string,
  words: string[],
  input?: Uint8Array,
  whole = false,
  pipe = false,
): RoleResult {
  const command = ROLE_HOSTS[host] as [string, ...string[]];
  const [program, ...args] = pipe ? ['sh', '-c', '"$@" | cat', 'sh', ...command] : command;
  const rootFd = openSync(root, 'r');
  const wholeFd = openSync(whole ? '/dev/zero' : '/dev/null', 'r');
  const umask = process.umask(0);
  try {
    const run = spawnSync(program, [...args, ...words, '--root', '4'], {
      input,
      stdio: ['pipe', 'pipe', 'inherit', 'pipe', rootFd, wholeFd],
      maxBuffer: 1 << 30,
      timeout: TIMEOUT,
    });
    // A role that refuses its input closes it early.
    if (run.error && (run.error as NodeJS.ErrnoException).code !== 'EPIPE') throw run.error;
    const line = String(run.output[3] ?? '');
    return { status: run.status, output: run.stdout, ...(line === '' ? {} : JSON.parse(line)) };
  } finally {
    process.umask(umask);
    closeSync(rootFd);
    closeSync(wholeFd);
  }
}
