/** Writes of what one connection brings: some are under way while more arrives, and each counts when all before it do. */

/** Bytes under way; less than a tap holds (http-tap.ts), so that it is here where a slow disk is waited for. */
const MOST = 2 * 1024 * 1024;

export class Writes {
  /** Under way, and what has failed. */
  readonly #writes: { size: number; done: Promise<void> }[] = [];
  #last: Promise<void> = Promise.resolve();

  /** @param onDone Called when these bytes, and all that were added before, are written. */
  add(size: number, write: Promise<void>, onDone: () => void): void {
    const done = Promise.all([this.#last, write]).then(() => {
      this.#writes.shift();
      onDone();
    });
    // Whoever waits for room, or for the end, meets it.
    done.catch(() => {});
    this.#writes.push({ size, done });
    this.#last = done;
  }

  /** Resolves when there may be more. @throws what the first write that failed did */
  async room(): Promise<void> {
    while (this.#writes.reduce((sum, { size }) => sum + size, 0) > MOST) await this.#writes[0]?.done;
  }

  /** Resolves when nothing is under way. @throws what the first write that failed did */
  async end(): Promise<void> {
    await this.#last;
  }
}
