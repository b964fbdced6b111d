/** The descriptors that a child gets: each has the number under which the child knows it, and the parent's copy is closed. */
import type { Native } from '../../native/face.ts';

/** First number after the standard ones. */
const FIRST = 3;

export class Descriptors {
  readonly #native: Native;
  readonly #parent = new Set<number>();
  readonly #pairs: [parent: number, child: number][] = [];
  #next = FIRST;

  constructor(native: Native) {
    this.#native = native;
  }

  /** Gives `fd` to the child and takes it over. @returns its number there. */
  give(fd: number): number {
    const child = this.#next++;
    this.giveAs(fd, child);
    return child;
  }

  /** The same under numbers that the child expects: 0, 1 and 2. */
  giveAs(fd: number, ...numbers: number[]): void {
    this.#parent.add(fd);
    for (const child of numbers) this.#pairs.push([fd, child]);
  }

  /** Gives one end of a new socket pair. @returns its number there, and the end that stays. */
  giveSocket(): { child: number; near: number } {
    const [near, far] = this.#native.socketPair();
    return { child: this.give(far), near };
  }

  /** For `SpawnOptions.fds`. */
  get pairs(): [parent: number, child: number][] {
    return [...this.#pairs];
  }

  /** Closes the parent's copies: after the spawn, or instead of it. */
  close(): void {
    for (const fd of this.#parent) this.#native.close(fd);
    this.#parent.clear();
  }
}
