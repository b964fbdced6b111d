/** Large answers, one after the other: with many askers at once, one of them is in memory. */
import { deferred } from '../lib/deferred.ts';

export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** Makes an answer when those before it are on their way and `ready` has resolved; it must never reject. */
  async take<T>(ready: () => Promise<void>, make: () => Promise<T>): Promise<T> {
    const before = this.#last;
    const done = deferred<void>();
    this.#last = done.promise;
    try {
      await before;
      await ready();
      return await make();
    } finally {
      // Not at once: who gets the answer has yet to send it.
      setImmediate(done.resolve);
    }
  }
}
