/** The descriptors that a child gets: each has the number under which the child knows it, and the parent's copy is closed. */
import type { Native } from '../../native/face.ts';

/** First number after the standard ones. */
const FIRST = 3;

export class Descriptors {
  readonly #native: Native;
  readonly #parent: number[] = [];

  constructor(native: Native) {
    this.#native = native;
  }

  /** Gives `fd` to the child and takes it over. @returns its number there. */
  give(fd: number): number {
    this.#parent.push(fd);
    return FIRST + this.#parent.length - 1;
  }

  /** Gives one end of a new socket pair. @returns its number there, and the end that stays. */
  giveSocket(): { child: number; near: number } {
    const [near, far] = this.#native.socketPair();
    return { child: this.give(far), near };
  }

  /** For `SpawnOptions.fds`. */
  get pairs(): [parent: number, child: number][] {
    return this.#parent.map((fd, index) => [fd, FIRST + index]);
  }

  /** Closes the parent's copies: after the spawn, or instead of it. */
  close(): void {
    for (const fd of this.#parent.splice(0)) this.#native.close(fd);
  }
}
