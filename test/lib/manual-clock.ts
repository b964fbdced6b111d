/** A clock that a test turns by hand. */
import type { Clock } from '../../host/node/clock.ts';

interface Timer {
  at: number;
  interval: number | null;
  run: () => void;
}

export class ManualClock implements Clock {
  #now = 1_700_000_000_000;
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#now;
  }

  every(interval: number, run: () => void): () => void {
    return this.#add({ at: this.#now + interval, interval, run });
  }

  after(delay: number, run: () => void): () => void {
    return this.#add({ at: this.#now + delay, interval: null, run });
  }

  /** Lets time pass; what is due runs at its time, in order. */
  pass(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.#now = next.at;
      if (next.interval === null) this.#timers.delete(next);
      else next.at += next.interval;
      next.run();
    }
    this.#now = end;
  }

  /** Timers that somebody still waits for. */
  get pending(): number {
    return this.#timers.size;
  }

  #add(timer: Timer): () => void {
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }
}
