/** The provider's own addresses, and the networks that it is directly in: nothing of a task may get there. */
import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import { formatIp, inRange, parseIp } from '../frame/address.ts';
import { embeddedIn, parseRange, type Range } from './ranges.ts';

/** How old what is known may be. Milliseconds. */
const MAX_AGE = 10_000;
/** A network wider than this (bits of its prefix) says nothing about who is near: somebody's odd routing. */
const WIDEST = { 4: 8, 16: 32 } as const;

export type ReadInterfaces = () => Record<string, NetworkInterfaceInfo[] | undefined>;

export class OwnNetworks {
  readonly #read: ReadInterfaces;
  readonly #now: () => number;
  #readAt = Number.NEGATIVE_INFINITY;
  #addresses = new Set<string>();
  #networks: Range[] = [];

  /** `now` in milliseconds of a clock that only goes forward. */
  constructor(now: () => number, read: ReadInterfaces = networkInterfaces) {
    this.#now = now;
    this.#read = read;
  }

  /** Whether the address, or an IPv4 one inside it, is one of this host's. */
  isOwn(address: Uint8Array): boolean {
    this.#refresh();
    return [address, ...embeddedIn(address)].some((each) => this.#addresses.has(formatIp(each)));
  }

  /** Whether it is in a network that this host has an interface in: a neighbour, also by a public address. */
  isNear(address: Uint8Array): boolean {
    this.#refresh();
    const all = [address, ...embeddedIn(address)];
    return this.#networks.some(({ network, prefix }) => all.some((each) => inRange(each, network, prefix)));
  }

  #refresh(): void {
    const now = this.#now();
    if (now - this.#readAt < MAX_AGE) return;
    this.#readAt = now;
    const infos = this.#interfaces();
    if (infos === null) return;
    this.#addresses = new Set();
    this.#networks = [];
    for (const { address: text, cidr } of infos) {
      // Node appends no zone; other systems might.
      const address = parseIp(text.replace(/%.*$/, ''));
      this.#addresses.add(formatIp(address));
      const prefix = cidr === null ? Number.NaN : parseRange(cidr.replace(/%[^/]*/, '')).prefix;
      if (prefix >= WIDEST[address.length as 4 | 16]) this.#networks.push({ network: address, prefix });
    }
  }

  /** Null: the system does not say now; what was known stays. */
  #interfaces(): NetworkInterfaceInfo[] | null {
    try {
      return Object.values(this.#read()).flatMap((infos) => infos ?? []);
    } catch {
      return null;
    }
  }
}
