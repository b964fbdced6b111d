/**
 * What happens when the host's disk refuses what a VM writes. QEMU stops the VM then, with the writes in its hands, so the
 * guest has lost nothing. It is let go on again and again, for room may come back; when that does not happen in time the
 * VM ends, with the reason. Handing the error to the guest would be worse: a program that does not call fsync never
 * learns that its file is not what it wrote, and a journal that fails takes the whole disk away.
 */
import { YavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import type { QmpEvent } from './qmp.ts';
import { ROOM_HINT } from './root-disk.ts';

/** Between two tries, milliseconds; and how long a VM stands still in all before it is given up. */
const INTERVAL = 1000;
const PATIENCE = 10_000;
/** A VM that has not been stopped for this long goes on by itself. */
const RECOVERED = 5000;

export interface DiskWatchOptions {
  /** Lets the VM go on: its writes are tried again. */
  resume(): void;
  /** The first refused write: the VM stands still. `reason` is the host's. */
  onStopped(reason: string): void;
  /** To be called at most once, and nothing after it. */
  onGivenUp(error: YavmError): void;
  clock?: WatchClock;
}

/** Time, so that tests decide when it passes. */
export interface WatchClock {
  /** Milliseconds, from anywhere. */
  now(): number;
  /** Calls `action` once, later; returns how to cancel. Does not keep the process alive. */
  after(milliseconds: number, action: () => void): () => void;
}

export class DiskWatch {
  readonly #options: DiskWatchOptions;
  readonly #clock: WatchClock;
  /** When the VM was stopped first; null: it runs. */
  #since: number | null = null;
  #cancel = () => {};
  #waiting = false;
  #closed = false;

  constructor(options: DiskWatchOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Takes any event of the monitor. */
  take({ event, data }: QmpEvent): void {
    if (this.#closed || event !== 'BLOCK_IO_ERROR' || data.action !== 'stop') return;
    const reason = printable(String(data.reason ?? 'no reason given').slice(0, MAX_REASON));
    if (this.#since === null) {
      this.#since = this.#clock.now();
      this.#options.onStopped(reason);
    } else if (this.#clock.now() - this.#since >= PATIENCE) {
      this.close();
      this.#options.onGivenUp(refused(data.nospace === true, reason));
      return;
    }
    // Several writes fail at once; one `cont` tries all of them again.
    if (this.#waiting) return;
    this.#waiting = true;
    this.#next(INTERVAL, () => {
      this.#waiting = false;
      this.#next(RECOVERED, () => {
        this.#since = null;
      });
      this.#options.resume();
    });
  }

  /** Nothing is done any more. */
  close(): void {
    this.#closed = true;
    this.#cancel();
  }

  #next(milliseconds: number, action: () => void): void {
    this.#cancel();
    this.#cancel = this.#clock.after(milliseconds, action);
  }
}

/** Characters of QEMU's reason that are shown. */
const MAX_REASON = 200;

function refused(full: boolean, reason: string): YavmError {
  const what = `the host's disk refused what the VM wrote, for ${PATIENCE / 1000} s: ${reason}`;
  return full
    ? new YavmError('YAVM_E_DISK_FULL', what, { hint: ROOM_HINT })
    : new YavmError('YAVM_E_DISK_FAILED', what, { hint: "The host's log (dmesg) may tell more." });
}

const systemClock: WatchClock = {
  now: () => performance.now(),
  after(milliseconds, action) {
    const timer = setTimeout(action, milliseconds).unref();
    return () => clearTimeout(timer);
  },
};
