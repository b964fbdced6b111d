/** Programs that are run once while the VM is set up, in the task's root and before any command of the task. */
import { isNativeError } from '../errors.ts';
import { O_CLOEXEC, O_PATH, O_RDWR, SIGKILL } from '../lib/constants.ts';
import { sleep } from '../lib/sleep.ts';
import type { GpuContext } from './context.ts';

const POLL_INTERVAL = 5;
/** Looks for the end of a program that was killed: it comes at once, unless it hangs in the kernel. */
const KILLED_DEADLINE = 2_000;

/** The first of `paths` that is in the task's root, without a leading slash; null: none. */
export function findInRoot({ native, rootFd }: GpuContext, paths: readonly string[]): string | null {
  for (const path of paths) {
    try {
      native.close(native.openBeneath(rootFd, path, O_PATH | O_CLOEXEC, 0));
      return path;
    } catch {
      // The next one.
    }
  }
  return null;
}

/**
 * Runs a program of the task's root (`argv[0]` without a leading slash), silently, as root. Null when it ended well; otherwise
 * what happened, in words. Never throws: who asks can do without it. The reaper does not run yet, so the end is looked for.
 */
export async function runInRoot(
  { native, rootFd, places }: GpuContext,
  argv: string[],
  milliseconds: number,
): Promise<string | null> {
  const file = `/${argv[0]}`;
  let child: { pid: number; pidfd: number };
  try {
    const none = native.open(`${places.dev}/null`, O_RDWR | O_CLOEXEC, 0);
    try {
      const fds: [number, number][] = [0, 1, 2].map((fd) => [none, fd]);
      const words = [file, ...argv.slice(1)];
      child = native.spawn({ file: [file], argv: words, env: ENVIRONMENT, fds, rootFd, umask: 0o022 });
    } finally {
      native.close(none);
    }
  } catch (error) {
    return `cannot be started (${isNativeError(error) ? error.code : String(error)})`;
  }
  try {
    const wait = async (limit: number) => {
      const start = native.monotonic();
      for (;;) {
        const status = native.waitPid(child.pid);
        if (status || native.monotonic() - start >= limit) return status;
        await sleep(POLL_INTERVAL);
      }
    };
    const status = await wait(milliseconds);
    if (!status) {
      native.killPidfd(child.pidfd, SIGKILL);
      await wait(KILLED_DEADLINE);
      return `did not end within ${milliseconds} ms`;
    }
    if (status.code === 0) return null;
    return status.code === undefined ? `was ended by signal ${status.signal}` : `ended with ${status.code}`;
  } finally {
    native.close(child.pidfd);
  }
}

const ENVIRONMENT = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C'];
