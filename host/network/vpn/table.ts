/**
 * Who has which address in the networks of an activity. Told by the requestor, learned from frames, or known from other
 * VMs of this host; what was told wins over what was learned. Rules and texts: exe-unit.md 8.4, 8.5.
 */
import { isNodeId } from '../../gsb/node-id.ts';
import type { FramePusher } from '../../gsb/types.ts';
import { YavmError } from '../../lib/errors.ts';
import { formatIp, inRange, parseIp, rangeEnd } from '../frame/address.ts';
import type { PeerStats, VpnNetwork } from '../types.ts';
import { type AddressKey, keyOfAddress } from './address-key.ts';
import { AddressTable } from './address-table.ts';
import { Drops } from './drops.ts';
import {
  addressOutside,
  addressTaken,
  isOfOneNode,
  MAX_NODES,
  parseNodeAddress,
  parseNodeId,
} from './networks.ts';
import type { Siblings } from './siblings-face.ts';

/** Addresses learned in one network; callers are not authenticated, so this is what they can cost. */
export const MAX_LEARNED = 1024;
/** Milliseconds without a frame after which a learned address makes room, when there is none. */
const LEARNED_STALE = 60_000;
/** Milliseconds between two searches for such. */
const SWEEP_EVERY = 1000;

/** Gives the way to a node; asked once for each node of a network. */
export type PusherOf = (nodeId: string, networkId: string) => FramePusher;

/** A node of a network that is not this one. */
export interface PeerNode {
  id: string;
  pusher: FramePusher;
  addresses: Set<Peer>;
}

/** An address that somebody has. */
export class Peer {
  readonly network: TableNetwork;
  readonly bytes: Uint8Array;
  readonly text: string;
  /** For siblings. */
  readonly key: AddressKey;
  /** Null: only another VM of this host says that it has it. */
  origin: 'own' | 'node' | 'learned' | null;
  /** Another VM of this host has it, whatever else is known. */
  local = false;
  /** Where its frames go, for `node` and `learned`. */
  node: PeerNode | null = null;
  /** As {@link PeerStats}: `in` is what the guest got from it. */
  framesIn = 0;
  bytesIn = 0;
  framesOut = 0;
  bytesOut = 0;
  lastSeen = 0;

  constructor(network: TableNetwork, bytes: Uint8Array, origin: Peer['origin']) {
    this.network = network;
    this.bytes = bytes;
    this.text = formatIp(bytes);
    this.key = keyOfAddress(bytes);
    this.origin = origin;
  }
}

export class TableNetwork {
  readonly id: string;
  readonly prefix: number;
  readonly range: Uint8Array;
  readonly nodeIp: Uint8Array;
  /** The directed broadcast address; null for IPv6, and where all addresses are hosts'. */
  readonly broadcast: Uint8Array | null;
  readonly drops = new Drops();
  readonly nodes = new Map<string, PeerNode>();
  /** One address of each node: who gets a copy of what is for all. */
  fanOut: readonly Peer[] = [];
  siblings: Siblings | null = null;
  /** Addresses that other VMs of this host have. */
  locals = 0;
  /** Addresses by where they are known from. */
  readonly counts = { own: 0, node: 0, learned: 0 };
  nextSweep = 0;

  constructor({ id, address, prefix, nodeIp }: VpnNetwork) {
    this.id = id;
    this.prefix = prefix;
    this.range = parseIp(address);
    this.nodeIp = parseIp(nodeIp);
    this.broadcast = this.range.length === 4 && prefix < 31 ? rangeEnd(this.range, prefix, 'last') : null;
  }

  get rangeText(): string {
    return `${formatIp(this.range)}/${this.prefix}`;
  }

  has(address: Uint8Array): boolean {
    return inRange(address, this.range, this.prefix);
  }
}

export class VpnTable {
  readonly networks: readonly TableNetwork[];
  readonly #nodeId: string;
  readonly #pusherOf: PusherOf;
  readonly #peers = new AddressTable<Peer>();

  /** @param networks Checked (networks.ts). */
  constructor(networks: readonly VpnNetwork[], nodeId: string, pusherOf: PusherOf) {
    this.#nodeId = nodeId;
    this.#pusherOf = pusherOf;
    this.networks = networks.map((network) => new TableNetwork(network));
    for (const [index, network] of this.networks.entries()) {
      this.#give(network, network.nodeIp, this.#nodeId);
      for (const [address, id] of Object.entries(networks[index]?.nodes ?? {})) {
        // The VM has its own address, whatever else is said of it.
        const bytes = parseIp(address);
        if (this.#peers.get(bytes)?.origin !== 'own') this.#give(network, bytes, id);
      }
      this.#nodesChanged(network);
    }
  }

  find4(bytes: Uint8Array, at: number): Peer | undefined {
    return this.#peers.find4(bytes, at);
  }

  find6(bytes: Uint8Array, at: number): Peer | undefined {
    return this.#peers.find6(bytes, at);
  }

  get(address: Uint8Array): Peer | undefined {
    return this.#peers.get(address);
  }

  /** By its id. @throws {YavmError} YAVM_E_NET_NETWORK, in upstream's words */
  network(id: string): TableNetwork {
    const network = this.networks.find((candidate) => candidate.id === id);
    if (network === undefined) throw new YavmError('YAVM_E_NET_NETWORK', 'Network not found');
    return network;
  }

  /**
   * Nodes that the requestor adds, in their order, up to the first that cannot be; a pair that is there already is fine.
   * @throws {YavmError} YAVM_E_NET_ADDRESS, YAVM_E_NET_TAKEN, YAVM_E_NET_NODE, YAVM_E_NET_NETWORK, in upstream's words
   */
  add(networkId: string, nodes: Readonly<Record<string, string>>): void {
    const network = this.network(networkId);
    try {
      for (const [address, nodeId] of Object.entries(nodes)) this.#addOne(network, address, nodeId);
    } finally {
      this.#nodesChanged(network);
    }
  }

  #addOne(network: TableNetwork, address: string, nodeId: string): void {
    const where = `network ${network.id}`;
    const bytes = parseIp(parseNodeAddress(address, where));
    const id = parseNodeId(nodeId, where);
    if (!network.has(bytes)) throw addressOutside(formatIp(bytes));
    const peer = this.#peers.get(bytes);
    if (peer?.origin === 'own' || peer?.origin === 'node') {
      const owner = peer.origin === 'own' ? this.#nodeId : peer.node?.id;
      if (owner !== id) throw addressTaken(peer.text);
      return;
    }
    if (network.counts.own + network.counts.node >= MAX_NODES) {
      throw new YavmError('YAVM_E_NET_NETWORK', `at most ${MAX_NODES} nodes are possible in a network`);
    }
    this.#give(network, bytes, id);
  }

  /** All addresses of these nodes, learned ones too. The VM's own address stays. @throws {YavmError} YAVM_E_NET_NETWORK */
  remove(networkId: string, nodeIds: readonly string[]): void {
    const network = this.network(networkId);
    for (const text of nodeIds) {
      const id = text.toLowerCase();
      if (id === this.#nodeId) {
        for (const peer of [...this.#peers.values()]) {
          const ours = peer.network === network && peer.origin === 'own';
          if (ours && Buffer.compare(peer.bytes, network.nodeIp) !== 0) this.#take(peer);
        }
      } else {
        for (const peer of [...(network.nodes.get(id)?.addresses ?? [])]) this.#take(peer);
      }
    }
    this.#nodesChanged(network);
  }

  /**
   * A frame's source that nobody has, the bytes at `at`: it becomes the caller's, if it is in the network, and if the network
   * does not know the caller yet.
   * @param now Milliseconds since the epoch.
   */
  learn(
    network: TableNetwork,
    bytes: Uint8Array,
    at: number,
    family: 4 | 6,
    caller: string,
    now: number,
  ): Peer | null {
    if (caller === this.#nodeId || network.nodes.has(caller) || !isNodeId(caller)) return null;
    // A copy, of a Buffer too.
    const address = Uint8Array.from(bytes.subarray(at, at + (family === 4 ? 4 : 16)));
    if (!network.has(address) || !isOfOneNode(address) || isForAll(network, address)) return null;
    if (this.#peers.get(address) !== undefined) return null;
    if (network.counts.learned >= MAX_LEARNED && !this.#sweep(network, now)) return null;
    const peer = this.#give(network, address, caller, 'learned');
    this.#nodesChanged(network);
    return peer;
  }

  /** Other VMs of this host have these addresses now, and no others. */
  setLocal(network: TableNetwork, addresses: Iterable<string>): void {
    const wanted = new Map<string, Uint8Array>();
    for (const text of addresses) {
      const bytes = parseIp(text);
      if (network.has(bytes) && Buffer.compare(bytes, network.nodeIp) !== 0)
        wanted.set(formatIp(bytes), bytes);
    }
    for (const peer of [...this.#peers.values()]) {
      if (peer.network !== network || !peer.local || wanted.has(peer.text)) continue;
      peer.local = false;
      if (peer.origin === null) this.#peers.delete(peer.bytes);
    }
    network.locals = 0;
    for (const bytes of wanted.values()) {
      const peer = this.#peers.get(bytes) ?? new Peer(network, bytes, null);
      // The requestor says that another node has it, and it knows better.
      if (peer.origin === 'node') continue;
      peer.local = true;
      this.#peers.set(bytes, peer);
      network.locals++;
    }
  }

  stats(network: TableNetwork): PeerStats[] {
    const peers = [...this.#peers.values()].filter((peer) => peer.network === network);
    return peers.sort((a, b) => Buffer.compare(a.bytes, b.bytes)).map((peer) => this.#statsOf(peer));
  }

  #statsOf(peer: Peer): PeerStats {
    const { text, origin, local, node, framesIn, bytesIn, framesOut, bytesOut, lastSeen } = peer;
    const kind = local || origin === null ? 'local' : origin === 'own' ? 'self' : origin;
    return {
      ...{ address: text, nodeId: node?.id ?? this.#nodeId, kind, lastSeen: lastSeen || null },
      ...{ framesIn, bytesIn, framesOut, bytesOut },
    };
  }

  /** The address is the node's from now on; what was learned of it is forgotten, what was counted stays. */
  #give(network: TableNetwork, bytes: Uint8Array, nodeId: string, origin: 'node' | 'learned' = 'node'): Peer {
    const peer = this.#peers.get(bytes) ?? new Peer(network, bytes, null);
    this.#leaveNode(peer);
    peer.origin = nodeId === this.#nodeId ? 'own' : origin;
    network.counts[peer.origin]++;
    if (peer.origin !== 'own') {
      let node = network.nodes.get(nodeId);
      if (node === undefined) {
        node = { id: nodeId, pusher: this.#pusherOf(nodeId, network.id), addresses: new Set() };
        network.nodes.set(nodeId, node);
      }
      node.addresses.add(peer);
      peer.node = node;
      // A VM of this host may have said so; a node that is told has it.
      if (peer.local && origin === 'node') {
        peer.local = false;
        network.locals--;
      }
    }
    this.#peers.set(bytes, peer);
    return peer;
  }

  #take(peer: Peer): void {
    this.#leaveNode(peer);
    if (!peer.local) this.#peers.delete(peer.bytes);
  }

  #leaveNode(peer: Peer): void {
    const { network, node } = peer;
    if (peer.origin !== null) network.counts[peer.origin]--;
    peer.origin = null;
    peer.node = null;
    node?.addresses.delete(peer);
    if (node?.addresses.size === 0) network.nodes.delete(node.id);
  }

  #nodesChanged(network: TableNetwork): void {
    network.fanOut = [...network.nodes.values()].map(({ addresses }) => [...addresses][0] as Peer);
  }

  /** Makes room for learned addresses; false: all are in use. */
  #sweep(network: TableNetwork, now: number): boolean {
    if (now < network.nextSweep) return false;
    network.nextSweep = now + SWEEP_EVERY;
    for (const peer of [...this.#peers.values()]) {
      const ours = peer.network === network && peer.origin === 'learned';
      if (ours && now - peer.lastSeen > LEARNED_STALE) this.#take(peer);
    }
    return network.counts.learned < MAX_LEARNED;
  }
}

function isForAll({ broadcast, range, prefix }: TableNetwork, address: Uint8Array): boolean {
  if (broadcast === null) return false;
  const first = rangeEnd(range, prefix, 'first');
  return Buffer.compare(address, broadcast) === 0 || Buffer.compare(address, first) === 0;
}
