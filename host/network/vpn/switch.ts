/**
 * Where frames go: from the guest to nodes and to other VMs of this host, and from them to the guest (exe-unit.md 8.4,
 * 8.5). The hot path of the VPN: a frame is read where it lies, and nothing is made for it.
 */
import { DROP, Drops } from './drops.ts';
import { CAST, Heading, isLinkLocal, isUnspecified, readHeading, UNDERSTOOD } from './heading.ts';
import type { Peer, TableNetwork, VpnTable } from './table.ts';

/** The guest's NIC. False: it has no room. */
export type ToGuest = (bytes: Uint8Array, offset: number, length: number) => boolean;

/** Sees what comes from the network; true: that was for it alone. */
export type Watcher = (bytes: Uint8Array, offset: number, length: number) => boolean;

export class VpnSwitch {
  /** Frames that belong to no network, or are none. */
  readonly drops = new Drops();
  /** Milliseconds since the epoch; whoever brings a batch sets it. */
  now = 0;
  /** A push was refused since this was last cleared. */
  refused = false;
  watcher: Watcher | null = null;
  readonly #table: VpnTable;
  readonly #toGuest: ToGuest;
  readonly #heading = new Heading();

  constructor(table: VpnTable, toGuest: ToGuest) {
    this.#table = table;
    this.#toGuest = toGuest;
  }

  /** A frame that the guest sent. */
  egress(bytes: Uint8Array, offset: number, length: number): void {
    const heading = this.#heading;
    const reason = readHeading(heading, bytes, offset, length);
    if (reason !== UNDERSTOOD) {
      this.drops.add(reason);
      return;
    }
    const source = this.#find(bytes, heading.source);
    if (source?.origin === 'own' && !source.local) {
      source.lastSeen = this.now;
      this.#leave(source.network, bytes, offset, length);
    } else if (this.#hasNoAddress(bytes)) {
      this.#leave(null, bytes, offset, length);
    } else {
      this.drops.add(DROP['foreign-source']);
    }
  }

  /** Who speaks for the NIC may do so before it has an address, and IPv6 does so from the NIC's own. */
  #hasNoAddress(bytes: Uint8Array): boolean {
    const heading = this.#heading;
    return heading.neighbourly && (isUnspecified(heading, bytes) || isLinkLocal(heading, bytes));
  }

  /** @param network The source's; null: it has none. */
  #leave(network: TableNetwork | null, bytes: Uint8Array, offset: number, length: number): void {
    const { cast, family, target } = this.#heading;
    if (cast === CAST.one) {
      const peer = this.#find(bytes, target);
      if (peer === undefined) this.#leaveUnknown(network, bytes, offset, length);
      else this.#leaveTo(peer, bytes, offset, length);
    } else if (cast === CAST.network && network !== null) {
      this.#leaveToAll(network, bytes, offset, length);
    } else {
      for (const each of this.#table.networks) {
        const isOfFamily = each.range.length === (family === 4 ? 4 : 16);
        if (isOfFamily) this.#leaveToAll(each, bytes, offset, length);
      }
    }
  }

  #leaveTo(peer: Peer, bytes: Uint8Array, offset: number, length: number): void {
    if (peer.local) {
      this.#toLocal(peer, bytes, offset, length);
    } else if (peer.node !== null) {
      this.#push(peer, bytes, offset, length);
    } else if (this.#heading.asks) {
      // Who asks for an address of its own tells the others of it, or looks whether one of them has it.
      this.#leaveToAll(peer.network, bytes, offset, length);
    } else {
      peer.network.drops.add(DROP['own-address']);
    }
  }

  #leaveUnknown(network: TableNetwork | null, bytes: Uint8Array, offset: number, length: number): void {
    const { asks, target } = this.#heading;
    const all = asks ? undefined : this.#broadcastOf(bytes, target);
    // A0:13 and the IPv4 address of a node that sends it on.
    const hasWay = !asks && bytes[offset] === 0xa0 && bytes[offset + 1] === 0x13;
    const way = hasWay ? this.#table.find4(bytes, offset + 2) : undefined;
    if (all !== undefined) this.#leaveToAll(all, bytes, offset, length);
    else if (way !== undefined) this.#leaveTo(way, bytes, offset, length);
    else (network?.drops ?? this.drops).add(DROP['unknown-destination']);
  }

  /** The network whose directed broadcast address it is. */
  #broadcastOf(bytes: Uint8Array, at: number): TableNetwork | undefined {
    if (this.#heading.family !== 4) return undefined;
    for (const network of this.#table.networks) {
      const { broadcast } = network;
      if (broadcast !== null && equal4(bytes, at, broadcast)) return network;
    }
    return undefined;
  }

  #leaveToAll(network: TableNetwork, bytes: Uint8Array, offset: number, length: number): void {
    for (const peer of network.fanOut) this.#push(peer, bytes, offset, length);
    if (network.locals > 0) network.siblings?.broadcast(bytes, offset, length);
  }

  #push(peer: Peer, bytes: Uint8Array, offset: number, length: number): void {
    if (peer.node?.pusher.push(bytes, offset, length) === true) {
      peer.framesOut++;
      peer.bytesOut += length;
    } else {
      this.refused = true;
      peer.network.drops.add(DROP['bus-full']);
    }
  }

  #toLocal(peer: Peer, bytes: Uint8Array, offset: number, length: number): void {
    if (!this.#sendLocal(peer, bytes, offset, length)) return;
    peer.framesOut++;
    peer.bytesOut += length;
  }

  /** Siblings count themselves what they have no room for. */
  #sendLocal(peer: Peer, bytes: Uint8Array, offset: number, length: number): boolean {
    const { siblings, drops } = peer.network;
    if (siblings?.send(peer.key, bytes, offset, length)) return true;
    if (!siblings?.has(peer.key)) drops.add(DROP['unknown-destination']);
    return false;
  }

  /** A frame that the bus brought for a network, from a node. */
  ingress(network: TableNetwork, caller: string, bytes: Uint8Array, offset: number, length: number): void {
    const heading = this.#heading;
    const reason = readHeading(heading, bytes, offset, length);
    if (reason !== UNDERSTOOD) {
      network.drops.add(reason);
      return;
    }
    const { source, family } = heading;
    let peer: Peer | null = this.#find(bytes, source) ?? null;
    if (peer === null) {
      peer = this.#table.learn(network, bytes, source, family, caller, this.now);
      // Before the frame: who gets it can answer.
      if (peer !== null) network.siblings?.change({ kind: 'learn', nodes: { [peer.text]: caller } });
    }
    if (peer?.node?.id === caller) this.#count(peer, length);
    if (network.locals > 0 && this.#toLocals(network, peer, bytes, offset, length)) return;
    this.#deliver(network, bytes, offset, length);
  }

  /** What is for other VMs of this host; true: for one of them alone. */
  #toLocals(
    network: TableNetwork,
    from: Peer | null,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): boolean {
    const { cast, asks, target } = this.#heading;
    const to = cast === CAST.one ? this.#find(bytes, target) : undefined;
    if (to?.local) {
      // Counted where it is taken: the guest of this one has not got it.
      this.#sendLocal(to, bytes, offset, length);
      return true;
    }
    const told = asks && to !== undefined && to === from;
    const isForAll = cast !== CAST.one || told || (!asks && this.#broadcastOf(bytes, target) === network);
    if (isForAll) network.siblings?.broadcast(bytes, offset, length);
    return false;
  }

  /** A frame that another VM of this host brought, its own or one of the bus. */
  fromLocal(network: TableNetwork, bytes: Uint8Array, offset: number, length: number): void {
    const reason = readHeading(this.#heading, bytes, offset, length);
    if (reason !== UNDERSTOOD) {
      network.drops.add(reason);
      return;
    }
    const peer = this.#find(bytes, this.#heading.source);
    if (peer !== undefined && peer.network === network) this.#count(peer, length);
    this.#deliver(network, bytes, offset, length);
  }

  #deliver(network: TableNetwork, bytes: Uint8Array, offset: number, length: number): void {
    if (this.watcher?.(bytes, offset, length)) return;
    if (!this.#toGuest(bytes, offset, length)) network.drops.add(DROP['guest-full']);
  }

  #count(peer: Peer, length: number): void {
    peer.framesIn++;
    peer.bytesIn += length;
    peer.lastSeen = this.now;
  }

  #find(bytes: Uint8Array, at: number): Peer | undefined {
    return this.#heading.family === 4 ? this.#table.find4(bytes, at) : this.#table.find6(bytes, at);
  }
}

function equal4(bytes: Uint8Array, at: number, address: Uint8Array): boolean {
  return (
    bytes[at] === address[0] &&
    bytes[at + 1] === address[1] &&
    bytes[at + 2] === address[2] &&
    bytes[at + 3] === address[3]
  );
}
