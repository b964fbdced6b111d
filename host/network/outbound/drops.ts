/** Frames that go nowhere without being a connection that was refused, counted by why. */
import type { Dropped } from '../types.ts';

/** Why; the names are those that `ya-vm net stats` shows. 0 is for none of them. */
export const DROP = {
  /** It ends within a header. */
  short: 1,
  /** A VLAN's tag. */
  vlan: 2,
  /** Neither ARP nor IP. */
  'not-ip': 3,
  /** A header's own lengths or versions contradict what came. */
  malformed: 4,
  /** IPv4 options, IPv6 extension headers. */
  options: 5,
  fragment: 6,
  /** From the guest, but not from its MAC, or its address. */
  'source-mac': 7,
  'source-address': 8,
  /** From the guest, but not to the gateway's MAC. */
  'destination-mac': 9,
  /** Broadcast and multicast: DHCP, listener reports, discovery of services. */
  group: 10,
  /** ARP and neighbour discovery that are not about the gateway. */
  arp: 11,
  ndp: 12,
  /** Flags that no connection has, or data in its first segment. */
  'tcp-flags': 13,
  /** A segment, a datagram or an answer of no connection that is known. */
  'no-flow': 14,
  /** ICMP that is neither an echo nor an error about a flow. */
  icmp: 15,
  /** For another than the guest. */
  'other-destination': 16,
  /** To the resolver: no query, too many of them, or a segment that has to come again. */
  'dns-malformed': 17,
  'dns-rate': 18,
  'dns-order': 19,
  /** There is no way out now. */
  'no-way-out': 20,
  /** A cable had no room. */
  full: 21,
  /** Who it was for gets the same from the filter, in another form, or has it. */
  replaced: 22,
} as const;

export type DropReason = keyof typeof DROP;

const NAMES = Object.keys(DROP) as DropReason[];

export class Drops {
  readonly #counts = new Float64Array(NAMES.length + 1);
  total = 0;

  /** @param reason A value of {@link DROP}. */
  add(reason: number, frames = 1): void {
    this.#counts[reason] = (this.#counts[reason] as number) + frames;
    this.total += frames;
  }

  /** Those that there were. */
  get byName(): Dropped {
    return Object.fromEntries(
      NAMES.map((name) => [name, this.#counts[DROP[name]] as number]).filter(([, count]) => count !== 0),
    );
  }
}
