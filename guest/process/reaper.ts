/**
 * Reaping: every child's end is collected here, and handed to whoever started it.
 *
 * One SIGCHLD may stand for many ends (standard signals coalesce), so each wake-up reaps until nothing is left, by
 * portions: a command may make children faster than they can be reaped.
 * Children that nobody here started are orphans, re-parented to PID 1: reaped too, and only counted.
 */
import type { ExitStatus, Native } from '../../native/face.ts';
import { READABLE, SIGCHLD } from '../lib/constants.ts';

/** Ends collected in one turn of the event loop, so that a fork bomb does not keep PID 1 from the request to kill it. */
const REAPED_A_TURN = 64;

type ExitListener = (status: ExitStatus) => void;

export class Reaper {
  readonly #native: Native;
  readonly #listeners = new Map<number, ExitListener>();
  /** Another turn will come. */
  #goesOn = false;
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
    const ended = this.#native.reap(REAPED_A_TURN);
    // Those that are left have had their signal.
    if (ended.length === REAPED_A_TURN) this.#goOn();
    for (const status of ended) {
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

  #goOn(): void {
    if (this.#goesOn) return;
    this.#goesOn = true;
    setTimeout(() => {
      this.#goesOn = false;
      this.reap();
    }, 0);
  }
}
