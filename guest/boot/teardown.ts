/** The end: every disk that was written is complete and clean before the power goes. */
import type { Native } from '../../native/face.ts';
import { MNT_DETACH, MS_RDONLY, MS_REMOUNT } from './mount-flags.ts';
import type { TaskRoot } from './root.ts';

/**
 * Unmounts all, once the task's processes are gone; never throws. Returns what did not go as it should, in words for
 * the log. A fixed number of system calls: one that hangs (a disk of the host that does) is ended by the host's own
 * deadline for a stop, and everything before it is on disk.
 *
 * 1. sync(2): if anything below fails, the data is safe nevertheless.
 * 2. The task's tree is detached as one: root, volumes, shares, and whatever the task mounted itself. Not unmounted one
 *    by one, since a process that nobody can kill may still hold a file there.
 * 3. Each disk, last first: read-only, which commits its journal and marks it clean even if it is in use, then off.
 */
export function unmountAll(native: Native, root: TaskRoot): string[] {
  const problems: string[] = [];
  const attempt = (what: string, step: () => void): boolean => {
    try {
      step();
      return true;
    } catch (error) {
      problems.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  };
  attempt('sync', () => native.sync());
  attempt("detaching the task's root", () => {
    try {
      native.umount(`/proc/self/fd/${root.fd}`, MNT_DETACH);
    } finally {
      native.close(root.fd);
    }
  });
  for (const place of [...root.writable].reverse()) {
    const clean = attempt(`making ${place} read-only`, () =>
      native.mount(null, place, null, MS_REMOUNT | MS_RDONLY, null),
    );
    if (clean) attempt(`unmounting ${place}`, () => native.umount(place, 0));
  }
  return problems;
}
