/** Progress of something long with a known or unknown size, reported at a bounded rate. */

export interface Progress {
  /** Units done so far (bytes, mostly). */
  done: number;
  /** Units in all, when known. */
  total?: number;
  /** Units a second, over the whole run. */
  rate: number;
}

/** Reports go out at most this often, milliseconds, so that a fast producer does not spend its time on reporting. */
const INTERVAL = 100;

/**
 * Counts progress and hands snapshots to `report`: the first `add` reports, then one report an interval at most, and
 * `finish` always reports the end.
 */
export class ProgressMeter {
  readonly #report: (progress: Progress) => void;
  readonly #now: () => number;
  readonly #total?: number;
  readonly #start: number;
  #done = 0;
  #reported = Number.NEGATIVE_INFINITY;

  constructor(report: (progress: Progress) => void, options: { total?: number; now?: () => number } = {}) {
    this.#report = report;
    this.#now = options.now ?? (() => performance.now());
    this.#total = options.total;
    this.#start = this.#now();
  }

  /** Counts `units` more. */
  add(units: number): void {
    this.#done += units;
    const now = this.#now();
    if (now - this.#reported < INTERVAL) return;
    this.#reported = now;
    this.#report(this.snapshot());
  }

  /** Reports the final state. */
  finish(): void {
    this.#report(this.snapshot());
  }

  snapshot(): Progress {
    const seconds = (this.#now() - this.#start) / 1000;
    return { done: this.#done, total: this.#total, rate: seconds > 0 ? this.#done / seconds : 0 };
  }
}
