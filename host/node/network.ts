/**
 * Several nodes in one process, joined as yagna's net joins nodes: what one's program calls at `/net/<id>/…` arrives at
 * `/public/…` of the node with this id, from the caller's node; its answers come back. Nothing is encrypted, delayed or
 * lost: for tests, and for several activities on one host.
 */
import { YavmError } from '../lib/errors.ts';
import type { Peer } from './peer.ts';

/** A node's router, as the others of the network see it. */
export interface Member {
  /** Empty: of no network; reached by nobody. */
  readonly nodeId: string;
  /** Who answers for an address. */
  owner(address: string): Peer | undefined;
  /** A peer, this member's or another's, is gone: it needs no answer any more. */
  forget(peer: Peer): void;
}

export class LocalNetwork {
  readonly #members = new Map<string, Member>();
  #version = 0;

  /** Another number when any name in it came or went. */
  get version(): number {
    return this.#version;
  }

  /** A member's names have changed. */
  changed(): void {
    this.#version++;
  }

  /** @throws {YavmError} YAVM_E_NODE_TAKEN when a node with this id is here */
  join(member: Member): void {
    const { nodeId } = member;
    if (this.#members.has(nodeId)) {
      throw new YavmError('YAVM_E_NODE_TAKEN', `${nodeId}: a node with this id is in the network already`);
    }
    this.#members.set(nodeId, member);
    this.changed();
  }

  /** Calls to it find nobody from now on. Nothing happens when it has left. */
  leave(member: Member): void {
    if (this.#members.get(member.nodeId) !== member) return;
    this.#members.delete(member.nodeId);
    this.changed();
  }

  find(nodeId: string): Member | undefined {
    return this.#members.get(nodeId);
  }

  /** Tells all members that a peer is gone. */
  forget(peer: Peer): void {
    for (const member of this.#members.values()) member.forget(peer);
  }
}
