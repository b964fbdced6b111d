/** A rate with a bound: so many at once, and so many a second from then on. */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #left: number;
  #at: number | null = null;

  constructor(perSecond: number, burst: number = perSecond) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#left = burst;
  }

  /** Whether there is one left. `now`: milliseconds of a clock that only goes forward. */
  take(now: number): boolean {
    const passed = this.#at === null ? 0 : now - this.#at;
    this.#at = now;
    this.#left = Math.min(this.#burst, this.#left + (passed / 1000) * this.#perSecond);
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
