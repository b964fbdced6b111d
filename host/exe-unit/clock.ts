/** Time as the exe-unit's data side sees it, so that tests decide when a minute has passed. */

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls `action` once, `milliseconds` from now; returns how to cancel. Never keeps the process alive by itself. */
  after(milliseconds: number, action: () => void): () => void;
}

/** Largest delay that Node's timers take, milliseconds; longer ones fire at once. */
export const MAX_DELAY = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: Date.now,
  after(milliseconds, action) {
    const timer = setTimeout(action, Math.min(milliseconds, MAX_DELAY));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
