/** Frames that go nowhere, counted by why. */
import type { Dropped } from '../types.ts';

/** Why; the names are those that `ya-vm net stats` shows. */
export const DROP = {
  /** It ends within a header. */
  short: 0,
  /** Neither ARP nor IP: VLAN tags, STP, anything else. */
  'not-ip': 1,
  /** A header's own lengths or versions contradict what came. */
  malformed: 2,
  /** The guest sent from an address that the requestor did not give this VM. */
  'foreign-source': 3,
  /** No node has the address. */
  'unknown-destination': 4,
  /** From the guest to an address of its own. */
  'own-address': 5,
  /** For a network that this VM is not in. */
  'unknown-network': 6,
  /** A packet's body is no bytes. */
  'not-bytes': 7,
  /** The bus is slower than the guest, or not there. */
  'bus-full': 8,
  /** The guest does not take its frames as fast as they come. */
  'guest-full': 9,
} as const;

export type DropReason = keyof typeof DROP;

const NAMES = Object.keys(DROP) as DropReason[];

export class Drops {
  readonly #counts = new Float64Array(NAMES.length);
  total = 0;

  /** @param reason A value of {@link DROP}. */
  add(reason: number): void {
    this.#counts[reason] = (this.#counts[reason] as number) + 1;
    this.total++;
  }

  /** Those that there were. */
  get byName(): Dropped {
    return Object.fromEntries(
      NAMES.map((name) => [name, this.#counts[DROP[name]] as number]).filter(([, count]) => count !== 0),
    );
  }
}
