/**
 * Reaping: every child's end is collected here, and handed to whoever started it.
 *
 * One SIGCHLD may stand for many ends (standard signals coalesce), so each wake-up reaps until nothing is left.
 * Children that nobody here started are orphans, re-parented to PID 1: reaped too, and only counted.
 */
import type { ExitStatus, Native } from '../../native/face.ts';
import { READABLE, SIGCHLD } from '../lib/constants.ts';

type ExitListener = (status: ExitStatus) => void;

export class Reaper {
  readonly #native: Native;
  readonly #listeners = new Map<number, ExitListener>();
  /** Called after each batch of ends: background children may have been among them. */
  onBatch: () => void = () => {};
  /** Orphans reaped so far. */
  orphans = 0;

  constructor(native: Native) {
    this.#native = native;
  }

  /** Starts listening. SIGCHLD is blocked from here on; it is only ever read from the descriptor. */
  start(): void {
    const fd = this.#native.signalFd([SIGCHLD]);
    this.#native.watch(fd, READABLE, () => {
      this.#native.readSignals(fd);
      this.reap();
    });
  }

  /** Tells `listener` once when child `pid` has ended. Must be called before control returns to the event loop. */
  expect(pid: number, listener: ExitListener): void {
    this.#listeners.set(pid, listener);
  }

  reap(): void {
    for (const status of this.#native.reapAll()) {
      const listener = this.#listeners.get(status.pid);
      if (!listener) {
        this.orphans++;
        continue;
      }
      this.#listeners.delete(status.pid);
      listener(status);
    }
    this.onBatch();
  }
}
