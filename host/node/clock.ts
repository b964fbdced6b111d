/** Time as the node's parts see it; tests turn it by hand. */

export interface Clock {
  /** Milliseconds since 1970 that never go back, whatever is done to the machine's clock. */
  now(): number;
  /** Calls `run` each `interval` milliseconds. @returns how to stop it */
  every(interval: number, run: () => void): () => void;
  /** Calls `run` once, after `delay` milliseconds. @returns how to forget it */
  after(delay: number, run: () => void): () => void;
}

/** The machine's. Its timers keep no process alive: what they watch does. */
export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  every(interval, run) {
    const timer = setInterval(run, interval).unref();
    return () => clearInterval(timer);
  },
  after(delay, run) {
    const timer = setTimeout(run, delay).unref();
    return () => clearTimeout(timer);
  },
};
