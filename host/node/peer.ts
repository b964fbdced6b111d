/** One connection to the router: its socket, its names, and who waits for its answers. */
import type { Socket } from 'node:net';
import type { FrameBatch } from '../gsb/frame-batch.ts';
import { encodePacket, type Packet } from '../gsb/packet.ts';
import type { Clock } from './clock.ts';
import { Outbox, type Sent } from './outbox.ts';

/** Names and topics that one peer may have, each. An exe-unit has six and three a network, yagna some hundreds. */
export const MAX_NAMES = 4096;
/** Calls that may wait for one peer's answers; more are refused. */
export const MAX_PENDING = 16_384;

export interface PeerOptions {
  /** Counts the router's connections; for people. */
  number: number;
  socket: Socket;
  clock: Clock;
  stalledAfter: number;
  /** Has the router end the connection. */
  drop: (reason: string) => void;
}

export class Peer {
  readonly number: number;
  readonly socket: Socket;
  /** Ends the connection, for whoever has a reason. */
  readonly drop: (reason: string) => void;
  /** Addresses that calls for it have. */
  readonly names = new Set<string>();
  readonly topics = new Set<string>();
  /**
   * Calls that it owes an answer, by request id alone: the same id again takes the earlier caller's place, who then
   * gets nothing (exe-unit.md 1.6).
   */
  readonly pending = new Map<string, Peer>();
  /** Hex; null before its Hello. */
  instance: string | null = null;
  /** Why it was closed; null while it is not. */
  closed: string | null = null;
  /** When it was heard last, by the router's clock. */
  heard: number;
  /** A message of it waits for its destination, so the next one is not read: it cannot be heard. */
  waits = false;
  readonly #outbox: Outbox;

  constructor({ number, socket, clock, stalledAfter, drop }: PeerOptions) {
    this.number = number;
    this.socket = socket;
    this.drop = drop;
    this.heard = clock.now();
    this.#outbox = new Outbox(socket, clock, stalledAfter);
  }

  /** Sends, or waits for room; see {@link Outbox.send}. */
  send(packet: Packet): Sent | Promise<Sent> {
    return this.#outbox.send(encodePacket(packet));
  }

  /** Sends what may get lost. */
  offer(packet: Packet): boolean {
    return this.#outbox.offer(encodePacket(packet));
  }

  /** Where frames for it are put, if it {@link takesFrames}. */
  get frames(): FrameBatch {
    return this.#outbox.frames;
  }

  /** See {@link Outbox.takesFrames}. */
  takesFrames(lossy: boolean): boolean {
    return this.#outbox.takesFrames(lossy);
  }

  /** Calls of a peer that is gone need no answer any more. */
  forget(caller: Peer): void {
    for (const [requestId, waiting] of this.pending) if (waiting === caller) this.pending.delete(requestId);
  }

  /** At once: what the system has taken still goes out, the rest does not. */
  close(reason: string): void {
    if (this.closed !== null) return;
    this.closed = reason;
    this.pending.clear();
    this.#outbox.close();
    this.socket.destroy();
  }
}
