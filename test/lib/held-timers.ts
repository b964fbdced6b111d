/** Timers that are due when a test says so, where others must go on by the clock. */

/** What users of a timer do with it. */
class HeldTimer {
  readonly run: () => void;
  readonly #timers: Set<HeldTimer>;

  constructor(run: () => void, timers: Set<HeldTimer>) {
    this.run = run;
    this.#timers = timers;
    timers.add(this);
  }

  refresh(): this {
    this.#timers.add(this);
    return this;
  }
}

/**
 * Takes over the timers of exactly `milliseconds`, until the test ends; those of any other length are real. Choose a
 * length that nothing else has.
 * @returns what lets that time pass, at once: all of these timers run that were set before and not stopped.
 */
export function holdTimers(t: { teardown(end: () => void): void }, milliseconds: number): () => void {
  const held = new Set<HeldTimer>();
  const { setTimeout, clearTimeout } = globalThis;
  t.teardown(() => Object.assign(globalThis, { setTimeout, clearTimeout }));
  Object.assign(globalThis, {
    setTimeout(run: () => void, ...words: [number?, ...unknown[]]) {
      return words[0] === milliseconds
        ? new HeldTimer(run, held)
        : Reflect.apply(setTimeout, null, [run, ...words]);
    },
    clearTimeout(timer: NodeJS.Timeout | HeldTimer | undefined) {
      if (timer instanceof HeldTimer) held.delete(timer);
      else clearTimeout(timer);
    },
  });
  return () => {
    const due = [...held];
    held.clear();
    for (const timer of due) timer.run();
  };
}
