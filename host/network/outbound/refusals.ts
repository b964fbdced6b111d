/** Connections that were refused: counted by destination, and logged once for each. */
import type { Logger } from '../../lib/logger.ts';
import type { Refusal } from '../types.ts';

/** Destinations that are listed; a task that tries more of them is looking for something. */
const MAX_DESTINATIONS = 256;

export class Refusals {
  readonly #logger: Logger;
  readonly #list = new Map<string, Refusal>();
  #others = 0;
  total = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** `destination`: `tcp 93.184.216.34:443`. */
  add(destination: string, reason: string, name?: string): void {
    this.total++;
    const key = `${destination} ${name ?? ''}`;
    const known = this.#list.get(key);
    if (known) {
      known.count++;
      known.reason = reason;
      return;
    }
    if (this.#list.size >= MAX_DESTINATIONS) {
      if (this.#others === 0) {
        this.#logger.warn('the task tries many destinations that are refused; more are not listed');
      }
      this.#others++;
      return;
    }
    this.#list.set(key, { destination, ...(name === undefined ? {} : { name }), reason, count: 1 });
    this.#logger.warn({ destination, name, reason }, 'a connection of the task was refused');
  }

  get list(): Refusal[] {
    const listed = [...this.#list.values()].map((refusal) => ({ ...refusal }));
    return this.#others === 0
      ? listed
      : [...listed, { destination: 'others', reason: 'not listed one by one', count: this.#others }];
  }
}
