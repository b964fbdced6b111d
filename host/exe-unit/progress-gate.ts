/** Lets a command's progress reports through as often as its script asks for, and the last one always. */
import { LEAST_INTERVAL } from '../transfer/progress.ts';
import type { Clock } from './clock.ts';
import type { ProgressOptions, ProgressReport } from './types.ts';

/** Milliseconds between two events when the script does not say. */
const INTERVAL = 1000;

export class ProgressGate {
  readonly #options: ProgressOptions;
  readonly #clock: Clock;
  readonly #pass: (report: ProgressReport) => void;
  #passedAt = Number.NEGATIVE_INFINITY;
  #passedDone = Number.NEGATIVE_INFINITY;
  #waiting: ProgressReport | null = null;

  constructor(options: ProgressOptions, clock: Clock, pass: (report: ProgressReport) => void) {
    this.#options = options;
    this.#clock = clock;
    this.#pass = pass;
  }

  /** A report of the runtime. A message that was held back goes out with the next report, unless that has a newer one. */
  offer(latest: ProgressReport): void {
    const message = latest.message ?? this.#waiting?.message;
    const report = message === undefined ? latest : { ...latest, message };
    const { updateInterval = INTERVAL, updateStep = 0 } = this.#options;
    const due = this.#clock.now() - this.#passedAt >= Math.max(LEAST_INTERVAL, updateInterval);
    // Less than before: it began anew.
    if (due && Math.abs(report.done - this.#passedDone) >= updateStep) this.#let(report);
    else this.#waiting = report;
  }

  /** The command is over: what was held back last is let through. */
  end(): void {
    if (this.#waiting) this.#let(this.#waiting);
  }

  #let(report: ProgressReport): void {
    this.#passedAt = this.#clock.now();
    this.#passedDone = report.done;
    this.#waiting = null;
    this.#pass(report);
  }
}
