/**
 * The right to download one image: held by one process at a time, waited for by the others. It is an open file's, so
 * it goes with the process however that ends.
 */
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { Native } from '../../native/face.ts';
import { sleep } from '../lib/deadline.ts';

export interface WaitOptions {
  native: Native;
  signal: AbortSignal;
  /** Called before each wait: a number that changes as long as the holder gets on. */
  watch(): Promise<number>;
  /** Milliseconds between two looks; default 200. */
  poll?: number;
  /** Milliseconds without a change after which the holder is not waited for any more; default 2 minutes. */
  patience?: number;
  sleep?: typeof sleep;
  now?: () => number;
}

export interface ImageLock {
  release(): Promise<void>;
}

const POLL = 200;
/** Longer than a holder that is well stays silent: its retries and stalls take less. */
const PATIENCE = 120_000;

/**
 * Takes the lock in the file `path`, which is there as long as somebody holds it. Null when there is no lock to be had:
 * the folder cannot be written, or the holder does not get on. Who goes on without it does work twice, but does it right.
 * @throws the signal's reason.
 */
export async function lockImage(path: string, options: WaitOptions): Promise<ImageLock | null> {
  const { native, signal, watch, poll = POLL, patience = PATIENCE } = options;
  const { sleep: wait = sleep, now = () => performance.now() } = options;
  let mark = -1;
  let changedAt = now();
  for (;;) {
    signal.throwIfAborted();
    const taken = await tryLock(path, native);
    if (taken !== 'held') return taken;
    const seen = await watch();
    if (seen !== mark) changedAt = now();
    mark = seen;
    if (now() - changedAt > patience) return null;
    await wait(poll, signal);
  }
}

async function tryLock(path: string, native: Native): Promise<ImageLock | 'held' | null> {
  let handle: FileHandle;
  try {
    handle = await open(path, 'a', 0o644);
  } catch {
    // What is wrong with the folder is told by who has to write to it; the image may be there.
    return null;
  }
  // Removed by the holder while it was opened: a lock on a file without a name is none.
  if (native.flock(handle.fd, true) && (await handle.stat()).nlink > 0) return heldLock(path, handle);
  await handle.close();
  return 'held';
}

function heldLock(path: string, handle: FileHandle): ImageLock {
  return {
    async release() {
      await rm(path, { force: true }).catch(() => {});
      await handle.close();
    },
  };
}
