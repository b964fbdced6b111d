/** Progress of a transfer at a bounded rate. A report costs a frame on the bus: upstream once drowned in them. */
import type { ProgressOptions, ProgressReport } from './types.ts';

const UNIT = 'Bytes';
/** Milliseconds between two reports at least, whatever a script asks for: each costs the node time. */
export const LEAST_INTERVAL = 250;
/** Milliseconds between two reports unless the command says otherwise (exe-unit.md 6.6). */
const INTERVAL = 1000;

/**
 * Counts a transfer's bytes. Reports of numbers come no more often than asked for; messages always go out, with the
 * last numbers; `finish` always reports the end.
 */
export class TransferProgress {
  readonly #report: (report: ProgressReport) => void;
  readonly #interval: number;
  readonly #step: number;
  readonly #now: () => number;
  #done = 0;
  #total: number | null = null;
  #reportedAt = Number.NEGATIVE_INFINITY;
  #reportedDone = 0;

  constructor(
    report: (report: ProgressReport) => void,
    { updateInterval, updateStep }: ProgressOptions = {},
    now: () => number = () => performance.now(),
  ) {
    this.#report = report;
    this.#interval = atLeastZero(updateInterval, INTERVAL);
    this.#step = atLeastZero(updateStep, 0);
    this.#now = now;
  }

  /** The first call reports at once. `done` may fall, when a transfer begins anew. */
  update(done: number, total: number | null): void {
    this.#done = done;
    this.#total = total;
    const now = this.#now();
    if (now - this.#reportedAt < this.#interval) return;
    const first = this.#reportedAt === Number.NEGATIVE_INFINITY;
    if (!first && Math.abs(done - this.#reportedDone) < this.#step) return;
    this.#reportedAt = now;
    this.#reportedDone = done;
    this.#report({ done, total, unit: UNIT });
  }

  message(message: string): void {
    this.#report({ message, done: this.#done, total: this.#total, unit: UNIT });
  }

  /** All of `total` bytes are there. */
  finish(total: number): void {
    this.#report({ done: total, total, unit: UNIT });
  }
}

/** The script is somebody else's: what is no such number counts as not said. */
function atLeastZero(value: number | undefined, fallback: number): number {
  return value !== undefined && value >= 0 ? value : fallback;
}
