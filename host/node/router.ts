/**
 * A GSB router as a daemon has one inside: peers register names, the router carries calls to the owner of the longest
 * name that fits, and answers back to the caller. Behaviour: exe-unit.md section 1, where the real one was observed.
 *
 * Unlike the real one it releases the names of every peer that is gone, whether that said Hello or not; an answer that
 * its caller does not take in time costs that caller the connection; names, open calls and peers are bounded; and what may
 * get lost (`/udp`, no answer wanted) holds nobody back: it is dropped where it is not taken.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { decodePacket, type Packet } from '../gsb/packet.ts';
import type { PacketCutter } from '../gsb/packet-cutter.ts';
import type { GsbAddress } from '../gsb/types.ts';
import { describeError } from '../lib/errors.ts';
import { type Logger, silentLogger } from '../lib/logger.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Arrival, FrameRoutes } from './frame-routes.ts';
import { listenOn } from './listen.ts';
import { netAddress } from './net-address.ts';
import { LocalNetwork, type Member } from './network.ts';
import type { Sent } from './outbox.ts';
import { MAX_NAMES, MAX_PENDING, Peer } from './peer.ts';
import { PeerReader } from './peer-reader.ts';
import { MAX_NAME, Routes, Topics } from './routes.ts';

/** What the router tells who is interested: connections and names; not calls, which are too many. */
export type RouterEvent =
  | { kind: 'connected'; peer: number }
  | { kind: 'hello'; peer: number; name: string; version: string }
  | { kind: 'registered' | 'refused' | 'unregistered'; peer: number; address: string }
  | { kind: 'disconnected'; peer: number; reason: string; released: string[] };

export interface RouterOptions {
  logger?: Logger;
  clock?: Clock;
  report?: (event: RouterEvent) => void;
  /** Of this node: calls over the network to it stay here. Default: it has none. */
  nodeId?: string;
  /** Nodes that it can call, and that can call it. Default: itself alone. */
  network?: LocalNetwork;
  /** Milliseconds between two looks at each peer; one that was silent for half of it gets a Ping. A daemon's: 10 s. */
  pingInterval?: number;
  /** Milliseconds of silence after which a peer is closed. A daemon's: 20 s. */
  pingTimeout?: number;
  /** Milliseconds that a message waits for a destination that does not read. A daemon's: 60 s. */
  stalledAfter?: number;
}

/** Peers at a time; more are closed at once. */
const MAX_PEERS = 256;

/** What a Hello of ours says; nobody looks at the version. */
const HELLO = { kind: 'hello', name: 'ya-vm-router', version: '0.1.0' } as const;

/** Reply codes (1.3), named by what they say. */
const CODE = { ok: 0, badRequest: 400, notFound: 404, conflict: 409, serviceFailure: 500 } as const;

type PacketOf<Kind extends Packet['kind']> = Extract<Packet, { kind: Kind }>;

/** Thrown where a peer breaks the protocol; the text is for the log. */
class Violation extends Error {}

export class GsbRouter implements Member {
  readonly #options: Required<RouterOptions>;
  readonly #instanceId = new Uint8Array(randomBytes(16));
  readonly #servers = new Set<Server>();
  readonly #peers = new Set<Peer>();
  readonly #routes = new Routes<Peer>();
  readonly #topics = new Topics<Peer>();
  readonly #frames: FrameRoutes;
  readonly #stopWatching: () => void;
  #count = 0;

  /** @throws {YavmError} YAVM_E_NODE_TAKEN when the network has a node with this id */
  constructor(options: RouterOptions = {}) {
    const { logger = silentLogger, clock = systemClock, report = () => {} } = options;
    const { pingInterval = 10_000, pingTimeout = 20_000, stalledAfter = 60_000, nodeId = '' } = options;
    const { network = new LocalNetwork() } = options;
    this.#options = { logger, clock, report, pingInterval, pingTimeout, stalledAfter, nodeId, network };
    this.#frames = new FrameRoutes({
      get version() {
        return network.version;
      },
      arrival: (request) => this.#arriving(request),
    });
    network.join(this);
    this.#stopWatching = clock.every(pingInterval, () => this.#watch());
  }

  /**
   * Listens; may be called for several addresses.
   * @returns the address, with the port that the system chose for port 0
   * @throws {YavmError} YAVM_E_NODE_LISTEN
   */
  async listen(address: GsbAddress): Promise<GsbAddress> {
    const server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
    const actual = await listenOn(server, address);
    this.#servers.add(server);
    return actual;
  }

  get nodeId(): string {
    return this.#options.nodeId;
  }

  owner(address: string): Peer | undefined {
    return this.#routes.find(address);
  }

  forget(peer: Peer): void {
    for (const other of this.#peers) other.forget(peer);
  }

  /** Leaves the network, closes every connection and removes the sockets. */
  async close(): Promise<void> {
    this.#stopWatching();
    this.#options.network.leave(this);
    for (const peer of this.#peers) this.#tellForeign(peer);
    const closed = [...this.#servers].map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    this.#servers.clear();
    for (const peer of this.#peers) this.#drop(peer, 'the node ends');
    await Promise.all(closed);
  }

  // -------------------------------------------------------------- connections

  #accept(socket: Socket): void {
    const { clock, stalledAfter, logger, report } = this.#options;
    socket.on('error', (error) => logger.debug({ err: error }, 'node: a connection failed'));
    if (this.#peers.size >= MAX_PEERS) {
      logger.warn({ peers: MAX_PEERS }, 'node: too many connections, one more was refused');
      socket.destroy();
      return;
    }
    const number = ++this.#count;
    const peer: Peer = new Peer({
      ...{ number, socket, clock, stalledAfter },
      drop: (reason) => this.#drop(peer, reason),
    });
    this.#peers.add(peer);
    socket.once('close', () => this.#drop(peer, 'the connection was lost'));
    report({ kind: 'connected', peer: peer.number });
    peer.offer({ ...HELLO, instanceId: this.#instanceId });
    this.#serve(peer);
  }

  #serve(peer: Peer): void {
    new PeerReader({
      socket: peer.socket,
      isClosed: () => peer.closed !== null,
      take: (packet) => {
        const wait = this.#receive(peer, packet);
        return wait && this.#waitFor(peer, wait);
      },
      flush: () => {
        peer.heard = this.#options.clock.now();
        this.#frames.flush();
      },
      ended: (error) =>
        this.#drop(peer, error === undefined ? 'it closed the connection' : describeError(error)),
    });
  }

  #receive(peer: Peer, packet: PacketCutter): Promise<void> | undefined {
    return this.#frames.forward(packet) ? undefined : this.#take(peer, decodePacket(packet.keep()));
  }

  async #waitFor(peer: Peer, wait: Promise<void>): Promise<void> {
    peer.waits = true;
    await wait;
    peer.waits = false;
    peer.heard = this.#options.clock.now();
  }

  /** Ends a connection, and forgets everything of it. */
  #drop(peer: Peer, reason: string): void {
    if (!this.#peers.delete(peer)) return;
    const released = [...peer.names];
    for (const name of peer.names) this.#routes.unregister(name, peer);
    this.#options.network.changed();
    for (const topic of peer.topics) this.#topics.unsubscribe(topic, peer);
    // Whoever waits for its answers gets none, as with the real router.
    peer.close(reason);
    this.#options.network.forget(peer);
    this.forget(peer);
    this.#options.logger.debug({ peer: peer.number, reason }, 'node: a connection ended');
    this.#options.report({ kind: 'disconnected', peer: peer.number, reason, released });
  }

  /** Those of other nodes who wait for a peer's answers learn that its node has left: their own one is still there. */
  #tellForeign(peer: Peer): void {
    for (const [requestId, caller] of peer.pending) {
      if (!this.#peers.has(caller))
        void this.#refuse(caller, requestId, CODE.serviceFailure, 'lost connection');
    }
  }

  /** Pings the silent, closes the dead (1.8). */
  #watch(): void {
    const { clock, pingInterval, pingTimeout } = this.#options;
    for (const peer of this.#peers) {
      if (peer.waits) continue;
      const silent = clock.now() - peer.heard;
      if (silent > pingTimeout) this.#drop(peer, `nothing heard of it for ${Math.round(silent)} ms`);
      else if (silent > pingInterval / 2) peer.offer({ kind: 'ping' });
    }
  }

  // -------------------------------------------------------------- packets

  /** @returns a promise where the packet has to wait. @throws {Violation} where the connection must not go on */
  #take(from: Peer, packet: Packet): Promise<void> | undefined {
    switch (packet.kind) {
      case 'hello':
        return this.#hello(from, packet);
      case 'registerRequest':
        return this.#register(from, packet.serviceId);
      case 'unregisterRequest':
        return this.#unregister(from, packet.serviceId);
      case 'callRequest':
        return this.#call(from, packet);
      case 'callReply':
        return this.#reply(from, packet);
      case 'subscribeRequest':
        return this.#subscribe(from, packet.topic);
      case 'unsubscribeRequest':
        return this.#unsubscribe(from, packet.topic);
      case 'broadcastRequest':
        return this.#broadcast(from, packet);
      case 'ping':
        // The real one answers with Ping too, not with Pong (1.8).
        return this.#answer(from, { kind: 'ping' });
      case 'pong':
        return undefined;
      default:
        throw new Violation(`it sent a ${packet.kind}, which only a router sends`);
    }
  }

  #hello(from: Peer, { name, version, instanceId }: PacketOf<'hello'>): undefined {
    if (from.instance !== null) throw new Violation('it said Hello twice');
    from.instance = Buffer.from(instanceId).toString('hex');
    this.#options.report({ kind: 'hello', peer: from.number, name, version });
    // The same process came back before its old connection was seen to be dead: its names must be free for it.
    for (const other of this.#peers) {
      if (other !== from && other.instance === from.instance) {
        this.#drop(other, `connection ${from.number} is of the same instance`);
      }
    }
  }

  #register(from: Peer, address: string): Promise<void> | undefined {
    const fits = address.length <= MAX_NAME && from.names.size < MAX_NAMES;
    const taken = fits && this.#routes.register(address, from);
    if (taken) from.names.add(address);
    this.#options.network.changed();
    this.#options.report({ kind: taken ? 'registered' : 'refused', peer: from.number, address });
    const code = taken ? CODE.ok : fits ? CODE.conflict : CODE.badRequest;
    return this.#answer(from, { kind: 'registerReply', code, message: '' });
  }

  #unregister(from: Peer, address: string): Promise<void> | undefined {
    const was = from.names.delete(address) && this.#routes.unregister(address, from);
    if (was) this.#options.report({ kind: 'unregistered', peer: from.number, address });
    this.#options.network.changed();
    return this.#answer(from, { kind: 'unregisterReply', code: was ? CODE.ok : CODE.notFound });
  }

  #subscribe(from: Peer, topic: string): Promise<void> | undefined {
    const fits = topic.length <= MAX_NAME && from.topics.size < MAX_NAMES;
    if (fits) {
      from.topics.add(topic);
      this.#topics.subscribe(topic, from);
    }
    return this.#answer(from, {
      kind: 'subscribeReply',
      code: fits ? CODE.ok : CODE.badRequest,
      message: '',
    });
  }

  #unsubscribe(from: Peer, topic: string): Promise<void> | undefined {
    const was = from.topics.delete(topic) && this.#topics.unsubscribe(topic, from);
    return this.#answer(from, { kind: 'unsubscribeReply', code: was ? CODE.ok : CODE.notFound });
  }

  /** Whoever does not read misses it: nobody waits for a subscriber (the real one keeps 16 messages a topic). */
  #broadcast(from: Peer, packet: PacketOf<'broadcastRequest'>): Promise<void> | undefined {
    for (const subscriber of this.#topics.of(packet.topic)) {
      if (!subscriber.offer(packet)) {
        this.#options.logger.debug({ peer: subscriber.number }, 'node: a broadcast was not taken');
      }
    }
    return this.#answer(from, { kind: 'broadcastReply', code: CODE.ok, message: '' });
  }

  #call(from: Peer, request: PacketOf<'callRequest'>): Promise<void> | undefined {
    const { to, packet, lossy } = this.#arriving(request);
    const { requestId, noReply } = packet;
    // Those that may get lost come here only when they are written in an unusual way, or are very large.
    if (noReply && lossy) return to && void to.offer(packet);
    if (noReply) return to && ignore(to.send(packet));
    if (!to) return this.#refuse(from, requestId, CODE.badRequest, 'endpoint address not found');
    const fits = requestId.length <= MAX_NAME && to.pending.size < MAX_PENDING;
    if (!fits) return this.#refuse(from, requestId, CODE.serviceFailure, 'too many calls are open');
    // Before it is sent: the answer may be there before we are back.
    to.pending.set(requestId, from);
    return whenNotTaken(to.send(packet), (why) => {
      if (to.pending.get(requestId) === from) to.pending.delete(requestId);
      const text = why === 'stalled' ? 'stalled connection' : 'lost connection';
      return this.#refuse(from, requestId, CODE.serviceFailure, text);
    });
  }

  /** A call as its owner gets it: over the network it comes under another address, from the node that sends it. */
  #arriving(packet: PacketOf<'callRequest'>): Arrival {
    const { nodeId, network } = this.#options;
    const net = netAddress(packet.address);
    const member = net && network.find(net.nodeId);
    if (!member) return { to: this.#routes.find(packet.address), packet, lossy: net?.lossy ?? false };
    const { address, lossy } = net;
    // Another node knows this one, not its programs.
    const caller = member !== this || packet.caller === 'local' ? nodeId : packet.caller;
    return { to: member.owner(address), packet: { ...packet, address, caller }, lossy };
  }

  #reply(from: Peer, packet: PacketOf<'callReply'>): Promise<void> | undefined {
    const to = from.pending.get(packet.requestId);
    // Nobody asked, or the caller's answer was complete already.
    if (!to) return undefined;
    if (packet.replyType === 'full') from.pending.delete(packet.requestId);
    return this.#answer(to, packet);
  }

  #refuse(to: Peer, requestId: string, code: 400 | 500, text: string): Promise<void> | undefined {
    const data = new TextEncoder().encode(text);
    return this.#answer(to, { kind: 'callReply', requestId, code, replyType: 'full', data });
  }

  /** What must not get lost: a peer that does not take it in time is closed, which it cannot overlook. */
  #answer(to: Peer, packet: Packet): Promise<void> | undefined {
    return whenNotTaken(to.send(packet), (why) => {
      if (why === 'stalled') to.drop('it did not read its answers');
      return undefined;
    });
  }
}

/** Runs `then` when a message was not taken. @returns a promise only where there is something to wait for */
function whenNotTaken(
  sent: Sent | Promise<Sent>,
  act: (why: 'stalled' | 'lost') => Promise<void> | undefined,
): Promise<void> | undefined {
  if (typeof sent !== 'string') return sent.then((late) => (late === 'taken' ? undefined : act(late)));
  return sent === 'taken' ? undefined : act(sent);
}

function ignore(sent: Sent | Promise<Sent>): Promise<void> | undefined {
  return typeof sent === 'string' ? undefined : sent.then(() => {});
}
