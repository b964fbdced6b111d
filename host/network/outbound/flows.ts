/**
 * Connections and exchanges under way, by addresses and ports. A frame finds its flow without an object being made: the guest's
 * side is one of three addresses, the other side's is four words. Frames of one flow follow each other, so the last one found is
 * looked at first.
 */
import { ipv4Bytes } from '../frame/address.ts';
import { IP_PROTOCOL, readU16, readU32 } from '../frame/layout.ts';
import type { DnsStream } from './dns-stream.ts';
import type { HalfClosed } from './half-closed.ts';
import type { Patience } from './patience.ts';

/** Which of the guest's addresses a flow has. */
export const LOCAL = { ipv4: 0, ipv6: 1, linkLocal: 2 } as const;
export type Local = (typeof LOCAL)[keyof typeof LOCAL];

/** Who has sent, or ended, something: bits. */
export const SIDE = { guest: 1, remote: 2, both: 3 } as const;

/** Idle time after which a flow is over, milliseconds. Established: RFC 5382 REQ-5; a datagram's exchange: RFC 4787 REQ-5. */
export const IDLE = {
  opening: 130_000,
  established: 7_440_000,
  halfClosed: 3_600_000,
  closing: 30_000,
  reset: 10_000,
  /** One direction only, until now. */
  datagram: 60_000,
  exchange: 300_000,
  echo: 60_000,
} as const;

export class Flow {
  /** IP protocol. */
  readonly protocol: number;
  readonly local: Local;
  readonly guestPort: number;
  readonly remotePort: number;
  /** The other side's address: one word (IPv4), or four. */
  readonly words: readonly [number, number, number, number];
  readonly hash: number;
  /** Who made it. */
  readonly fromGuest: boolean;
  /** Whether the other side is the resolver. */
  readonly dns: boolean;

  /** Sides that have sent something, and that have ended theirs. */
  heard = 0;
  ended = 0;
  reset = false;
  /** Time of the last frame, milliseconds. */
  seen = 0;
  /** TCP: the number behind the guest's last byte; signed, as differences of such numbers are. */
  guestNext = 0;
  /** TCP: what the guest has acknowledged last; null: nothing yet. */
  guestAcknowledged: number | null = null;
  stream: DnsStream | null = null;
  /** TCP: the number behind the other side's last byte, and by how many bits the guest's windows are shifted. */
  remoteNext = 0;
  guestScale = 0;
  half: HalfClosed | null = null;
  patience: Patience | null = null;

  /** Next in its bucket; neighbours in its list, the newer and the older. */
  next: Flow | null = null;
  newer: Flow | null = null;
  older: Flow | null = null;
  list: List | null = null;

  constructor(
    init: Pick<
      Flow,
      'protocol' | 'local' | 'guestPort' | 'remotePort' | 'words' | 'hash' | 'fromGuest' | 'dns'
    >,
  ) {
    this.protocol = init.protocol;
    this.local = init.local;
    this.guestPort = init.guestPort;
    this.remotePort = init.remotePort;
    this.words = init.words;
    this.hash = init.hash;
    this.fromGuest = init.fromGuest;
    this.dns = init.dns;
  }

  /** The other side's address: 4 or 16 bytes. */
  address(): Uint8Array {
    const words = this.local === LOCAL.ipv4 ? this.words.slice(0, 1) : this.words;
    return Uint8Array.from(words.flatMap((word) => [...ipv4Bytes(word)]));
  }
}

/** Flows by the time of their last frame. */
interface List {
  newest: Flow | null;
  oldest: Flow | null;
}

/** Idle time, milliseconds, that a flow may have now. */
export type IdleOf = (flow: Flow) => number;
/** Whether a flow has no claim to live on: it goes first when there is no room. */
export type Ending = (flow: Flow) => boolean;

export interface FlowTableOptions {
  most: number;
  idleOf: IdleOf;
  /** A flow that is not over may be given up for a new one after this idle time, milliseconds. */
  evictAfter: number;
  /** Told of each flow that is over because nothing passes, or given up for want of room. */
  onForget?: (flow: Flow) => void;
  ending?: Ending;
}

export class FlowTable {
  readonly #options: FlowTableOptions;
  readonly #buckets = new Map<number, Flow>();
  /** Flows that are open, and that are ending. */
  readonly #open: List = { newest: null, oldest: null };
  readonly #ending: List = { newest: null, oldest: null };
  #last: Flow | null = null;
  #size = 0;

  constructor(options: FlowTableOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  /** The flow of a frame, if it is not over. The other side's address is at `at`. */
  find(
    protocol: number,
    local: Local,
    guestPort: number,
    remotePort: number,
    bytes: Uint8Array,
    at: number,
    now: number,
  ): Flow | null {
    const w0 = readU32(bytes, at) | 0;
    const last = this.#last;
    if (
      last !== null &&
      last.guestPort === guestPort &&
      last.remotePort === remotePort &&
      last.words[0] === w0 &&
      last.protocol === protocol &&
      last.local === local &&
      (local === LOCAL.ipv4 || sameTail(last, bytes, at))
    ) {
      return this.#alive(last, now);
    }
    const hash = hashOf(protocol, local, guestPort, remotePort, bytes, at);
    let flow = this.#buckets.get(hash) ?? null;
    for (; flow !== null; flow = flow.next) {
      if (
        flow.guestPort === guestPort &&
        flow.remotePort === remotePort &&
        flow.words[0] === w0 &&
        flow.protocol === protocol &&
        flow.local === local &&
        (local === LOCAL.ipv4 || sameTail(flow, bytes, at))
      ) {
        break;
      }
    }
    if (flow === null) return null;
    this.#last = flow;
    return this.#alive(flow, now);
  }

  /** A new flow, which `find` has not found. Null: the table is full of flows that are in use. */
  add(
    key: Pick<Flow, 'protocol' | 'local' | 'guestPort' | 'remotePort' | 'fromGuest' | 'dns'>,
    bytes: Uint8Array,
    at: number,
    now: number,
  ): Flow | null {
    if (this.#size >= this.#options.most && !this.#makeRoom(now)) return null;
    const word = (index: number) => readU32(bytes, at + 4 * index) | 0;
    const ipv4 = key.local === LOCAL.ipv4;
    const flow = new Flow({
      ...key,
      words: [word(0), ipv4 ? 0 : word(1), ipv4 ? 0 : word(2), ipv4 ? 0 : word(3)],
      hash: hashOf(key.protocol, key.local, key.guestPort, key.remotePort, bytes, at),
    });
    flow.seen = now;
    flow.next = this.#buckets.get(flow.hash) ?? null;
    this.#buckets.set(flow.hash, flow);
    this.#size++;
    this.#last = flow;
    link(flow, this.#listOf(flow));
    return flow;
  }

  /** A frame of the flow has passed, and its fields are up to date. */
  touch(flow: Flow, now: number): void {
    flow.seen = now;
    const list = this.#listOf(flow);
    if (list.newest === flow) return;
    unlink(flow);
    link(flow, list);
  }

  remove(flow: Flow): void {
    if (flow.list === null) return;
    unlink(flow);
    if (this.#last === flow) this.#last = null;
    this.#size--;
    const first = this.#buckets.get(flow.hash) as Flow;
    if (first === flow) {
      if (flow.next === null) this.#buckets.delete(flow.hash);
      else this.#buckets.set(flow.hash, flow.next);
      return;
    }
    for (let before = first; before.next !== null; before = before.next) {
      if (before.next !== flow) continue;
      before.next = flow.next;
      return;
    }
  }

  /** Forgets what has been idle for too long. */
  expire(now: number): void {
    for (const flow of this.all()) this.#alive(flow, now);
  }

  all(): Flow[] {
    const flows: Flow[] = [];
    for (const list of [this.#open, this.#ending]) {
      for (let flow = list.newest; flow !== null; flow = flow.older) flows.push(flow);
    }
    return flows;
  }

  clear(): void {
    for (const flow of this.all()) this.remove(flow);
  }

  #listOf(flow: Flow): List {
    return this.#options.ending?.(flow) === true ? this.#ending : this.#open;
  }

  #alive(flow: Flow, now: number): Flow | null {
    if (now - flow.seen < this.#options.idleOf(flow)) return flow;
    this.remove(flow);
    this.#options.onForget?.(flow);
    return null;
  }

  /** Gives up the flow that has been idle for the longest time: one that is ending, else one that nobody seems to use. */
  #makeRoom(now: number): boolean {
    let flow = this.#ending.oldest;
    if (flow === null) {
      flow = this.#open.oldest;
      if (flow === null || now - flow.seen < this.#options.evictAfter) return false;
    }
    this.remove(flow);
    this.#options.onForget?.(flow);
    return true;
  }
}

/** The idle time of a TCP connection. */
export function tcpIdle(flow: Flow): number {
  if (flow.reset) return IDLE.reset;
  if (flow.ended === SIDE.both) return IDLE.closing;
  if (flow.ended !== 0) return IDLE.halfClosed;
  return flow.heard === SIDE.both ? IDLE.established : IDLE.opening;
}

/** That of UDP, and of echoes. */
export function exchangeIdle(flow: Flow): number {
  if (flow.protocol !== IP_PROTOCOL.udp) return IDLE.echo;
  return flow.heard === SIDE.both && !flow.dns ? IDLE.exchange : IDLE.datagram;
}

export function tcpEnding(flow: Flow): boolean {
  return flow.reset || flow.ended === SIDE.both;
}

function sameTail(flow: Flow, bytes: Uint8Array, at: number): boolean {
  const words = flow.words;
  return (
    words[1] === (readU32(bytes, at + 4) | 0) &&
    words[2] === (readU32(bytes, at + 8) | 0) &&
    words[3] === (readU32(bytes, at + 12) | 0)
  );
}

/** Not below zero, and small enough to be no object (31 bits). */
function hashOf(
  protocol: number,
  local: Local,
  guestPort: number,
  remotePort: number,
  bytes: Uint8Array,
  at: number,
): number {
  let hash = Math.imul((guestPort << 16) ^ remotePort, 0x9e3779b1) ^ (protocol * 4 + local);
  const end = at + (local === LOCAL.ipv4 ? 4 : 16);
  for (let word = at; word < end; word += 2) {
    hash = Math.imul(hash ^ readU16(bytes, word), 0x85ebca6b);
    hash ^= hash >>> 13;
  }
  return hash & 0x3fffffff;
}

function link(flow: Flow, list: List): void {
  flow.list = list;
  flow.older = list.newest;
  flow.newer = null;
  if (list.newest !== null) list.newest.newer = flow;
  list.newest = flow;
  list.oldest ??= flow;
}

function unlink(flow: Flow): void {
  const { list, newer, older } = flow;
  if (list === null) return;
  if (newer === null) list.newest = older;
  else newer.older = older;
  if (older === null) list.oldest = newer;
  else older.newer = newer;
  flow.newer = null;
  flow.older = null;
  flow.list = null;
}
