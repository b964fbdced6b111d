/** A clock that stands still until the test moves it. */
import type { Clock } from '../../host/exe-unit/clock.ts';

export class FakeClock implements Clock {
  #now: number;
  readonly #timers = new Set<{ at: number; action: () => void }>();

  constructor(now: number = Date.parse('2026-11-23T13:07:13.820Z')) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  after(milliseconds: number, action: () => void): () => void {
    const timer = { at: this.#now + milliseconds, action };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Lets time pass; what falls due happens, in order. */
  pass(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#now = due.at;
      due.action();
    }
    this.#now = end;
  }
}
