/**
 * Waits for the nodes of a card. A driver makes them while it takes the card, and nearly all take it while they load: then
 * there is nothing to wait for. Others do that in a thread of their own, and the kernel announces (uevents) what comes of it.
 */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { READABLE } from '../lib/constants.ts';
import type { Card } from './cards.ts';
import { drmNodes } from './drm.ts';

/** From the end of the driver's loading, milliseconds: what takes long, firmware from a slow disk, loading waits for itself. */
const NODE_DEADLINE = 2_000;
/** Announcements read in one turn of the event loop. */
const EVENTS_A_TURN = 32;

export class DrmWait {
  readonly #native: Native;
  readonly #card: Card;
  /** Of announcements; -1: the kernel has none, and nodes are looked for at the deadline. */
  #fd = -1;

  /** To be made before the driver is loaded: what was announced earlier is not heard. */
  constructor(native: Native, card: Card) {
    this.#native = native;
    this.#card = card;
    try {
      this.#fd = native.ueventOpen();
    } catch {
      // Without it there is the deadline.
    }
  }

  /** Paths beneath /dev, at once where they are there; none when the deadline passes. */
  async nodes(milliseconds = NODE_DEADLINE): Promise<string[]> {
    const native = this.#native;
    const there = () => drmNodes(native, this.#card);
    const nodes = there();
    if (nodes.length > 0) return nodes;
    return await new Promise((resolve, reject) => {
      let ended = false;
      const end = (work: () => string[]) => {
        if (ended) return;
        ended = true;
        if (this.#fd >= 0) native.unwatch(this.#fd);
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      };
      setTimeout(() => end(there), milliseconds);
      if (this.#fd < 0) return;
      native.watch(this.#fd, READABLE, () => {
        try {
          if (!this.#concerned()) return;
          const found = there();
          // The last that is made is always there, also for a card without outputs (drm_dev_register).
          if (found.some((path) => path.startsWith('dri/card'))) end(() => found);
        } catch (error) {
          end(() => {
            throw error;
          });
        }
      });
    });
  }

  /** Whether one of the announcements that have come is about the card, or some were lost. */
  #concerned(): boolean {
    let concerned = false;
    for (let count = 0; count < EVENTS_A_TURN; count++) {
      try {
        const event = this.#native.ueventRead(this.#fd);
        if (event === null) break;
        if (event.includes(`/${this.#card.slot}`)) concerned = true;
      } catch (error) {
        // Some were lost; after anything else nothing more is heard.
        if (!hasErrno(error, 'ENOBUFS')) this.#native.unwatch(this.#fd);
        return true;
      }
    }
    return concerned;
  }

  close(): void {
    if (this.#fd >= 0) this.#native.close(this.#fd);
    this.#fd = -1;
  }
}
