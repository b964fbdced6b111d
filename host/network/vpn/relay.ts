/**
 * An activity's VPN: between the cable to its guest, the bus, and other VMs of this host. Decisions are switch.ts's; here
 * the ends are joined, in batches: whatever one read brought goes out in one write.
 */
import { connectGsb, type FrameBus, type FrameHandler, parseGsbUrl } from '../../gsb/index.ts';
import { withDeadline } from '../../lib/deadline.ts';
import { deferred } from '../../lib/deferred.ts';
import { YavmError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { formatIp, parseIp } from '../frame/address.ts';
import { parseMac } from '../frame/mac.ts';
import type { FrameBatch, FrameLink, FrameTap } from '../nic/frame-link.ts';
import { openFrameLink } from '../nic/open.ts';
import type { PingReply, VpnSetup, VpnStats } from '../types.ts';
import { type ControlMessage, controlHandler, packetHandler } from './control.ts';
import { DROP } from './drops.ts';
import { askOwnId } from './identity.ts';
import { type NetworkBindings, NetworkNames } from './names.ts';
import { checkNetworks } from './networks.ts';
import { Pinger } from './pinger.ts';
import type { OpenVpnRelay, RelayParts, VpnRelay } from './relay-face.ts';
import { networkStats, nicOf, sumDrops } from './relay-stats.ts';
import { openSiblings } from './siblings.ts';
import type { OpenSiblings, SiblingRole, TableChange } from './siblings-face.ts';
import { VpnSwitch } from './switch.ts';
import { type TableNetwork, VpnTable } from './table.ts';

/** What the relay does to its surroundings, for tests. */
export interface RelayEffects {
  connect(url: string, logger: Logger): FrameBus;
  openLink(nic: VpnSetup['nic']): FrameLink;
  openSiblings: OpenSiblings;
  /** Milliseconds since the epoch. */
  now(): number;
  /** Milliseconds between two summaries of drops. */
  summaryEvery: number;
}

/** Milliseconds for which a lost bus is looked for: as long as the activity lasts. */
const RECONNECT_FOR = 2 ** 31 - 1;
const FIRST_FOR = 9000;
/** Milliseconds for names to be bound, or known to be another's, before the guest is let go on. */
const NAMES_WAIT = 3000;
/** Milliseconds for which the guest's frames wait when the bus is congested. */
const HOLD = 2;
/** Milliseconds between two summaries of drops in the log. */
const SUMMARY_EVERY = 60_000;

export const openVpnRelay: OpenVpnRelay = (setup, parts) =>
  openVpnRelayWith(setup, parts, {
    connect: (url, logger) =>
      connectGsb({ address: parseGsbUrl(url), logger, firstFor: FIRST_FOR, reconnectFor: RECONNECT_FOR }),
    openLink: (nic) => openFrameLink(parts.native, nic),
    openSiblings,
    now: Date.now,
    summaryEvery: SUMMARY_EVERY,
  });

/** {@link openVpnRelay} with the effects passed in. */
export async function openVpnRelayWith(
  setup: VpnSetup,
  parts: RelayParts,
  effects: RelayEffects,
): Promise<VpnRelay> {
  let bus: FrameBus | undefined;
  let relay: Relay;
  try {
    bus = effects.connect(setup.gsbUrl, parts.logger);
    // First, as upstream: where both fail, the requestor is told of the identity.
    const nodeId = await askOwnId(bus);
    checkNetworks(setup.networks);
    relay = new Relay(setup, parts, effects, bus, nodeId);
  } catch (error) {
    parts.native.close(setup.nic.fd);
    await bus?.close();
    throw error;
  }
  await relay.begin();
  return relay;
}

/** A network's part of the relay. */
interface Part {
  network: TableNetwork;
  names: NetworkNames;
  role: SiblingRole;
}

class Relay implements VpnRelay {
  readonly #setup: VpnSetup;
  readonly #logger: Logger;
  readonly #effects: RelayEffects;
  readonly #bus: FrameBus;
  readonly #nodeId: string;
  readonly #link: FrameLink;
  readonly #table: VpnTable;
  readonly #switch: VpnSwitch;
  readonly #pinger: Pinger;
  readonly #parts: readonly Part[];
  readonly #counters: Float64Array;
  readonly #summary: NodeJS.Timeout;
  #summed = 0;
  #tap: FrameTap | null = null;
  #held: NodeJS.Timeout | null = null;
  #flushing: NodeJS.Immediate | null = null;
  #closing: Promise<void> | null = null;

  constructor(setup: VpnSetup, parts: RelayParts, effects: RelayEffects, bus: FrameBus, nodeId: string) {
    this.#setup = setup;
    this.#logger = parts.logger;
    this.#effects = effects;
    this.#bus = bus;
    this.#nodeId = nodeId;
    this.#counters = new Float64Array(parts.counters);
    const mac = parseMac(setup.mac);
    this.#link = effects.openLink(setup.nic);
    this.#link.onBatch = (batch) => this.#fromGuest(batch);
    this.#link.onEnd = (error) => this.#guestGone(error);
    this.#table = new VpnTable(setup.networks, nodeId, (to, network) =>
      bus.pusher(`/udp/net/${to}/vpn/${network}/raw`, nodeId),
    );
    this.#switch = new VpnSwitch(this.#table, (bytes, offset, length) =>
      this.#toGuest(bytes, offset, length),
    );
    this.#pinger = new Pinger({
      mac,
      send: (frame) => this.#sendAsGuest(frame),
      watch: (on) => {
        this.#switch.watcher = on ? (...frame) => this.#pinger.see(...frame) : null;
      },
    });
    this.#parts = this.#table.networks.map((network) => this.#partOf(network));
    this.#summary = setInterval(() => this.#summarize(), effects.summaryEvery).unref();
  }

  #partOf(network: TableNetwork): Part {
    const logger = this.#logger.child({ network: network.id });
    const names = new NetworkNames(this.#bus, network.id, this.#bindings(network), logger);
    return { network, names, role: 'waiting' };
  }

  /** Takes part in each network; resolves when it is known in each who has its names. */
  async begin(): Promise<void> {
    const known = this.#parts.map((part) => this.#join(part));
    await withDeadline(Promise.all(known), NAMES_WAIT, 'names of the VPN').catch((error) =>
      this.#logger.warn(
        { err: error },
        'the VPN’s names on the bus are not bound yet: no frames come until they are',
      ),
    );
  }

  async #join(part: Part): Promise<void> {
    const { requestorId, siblings: folder } = this.#setup;
    const { network, names } = part;
    if (requestorId === null) {
      part.role = 'owner';
      names.hold();
      return await names.tried;
    }
    const decided = deferred<void>();
    network.siblings = this.#effects.openSiblings(
      {
        ...{ folder, requestorId, nodeId: this.#nodeId, networkId: network.id },
        addresses: [formatIp(network.nodeIp)],
      },
      {
        onRole: (role) => {
          this.#setRole(part, role);
          if (role !== 'waiting') decided.resolve();
        },
        onFrame: (bytes, offset, length) => {
          this.#switch.now = this.#effects.now();
          this.#switch.fromLocal(network, bytes, offset, length);
          // Each read brings many: they go on together.
          this.#flushing ??= setImmediate(() => this.#flush());
        },
        onChange: (change) => this.#changed(network, change),
        onLocal: () => {
          this.#localsChanged(network);
          this.#tellLearned(network);
        },
      },
      this.#logger,
    );
    this.#localsChanged(network);
    await decided.promise;
    if (part.role === 'owner') await names.tried;
  }

  #setRole(part: Part, role: SiblingRole): void {
    part.role = role;
    if (this.#closing !== null) return;
    if (role === 'owner') part.names.hold();
    else void part.names.release();
  }

  #localsChanged(network: TableNetwork): void {
    if (network.siblings !== null) this.#table.setLocal(network, network.siblings.local);
  }

  /** A VM that has just come does not know whom the others have heard. */
  #tellLearned(network: TableNetwork): void {
    const learned = this.#table.stats(network).filter(({ kind }) => kind === 'learned');
    if (learned.length === 0) return;
    const nodes = Object.fromEntries(learned.map(({ address, nodeId }) => [address, nodeId]));
    network.siblings?.change({ kind: 'learn', nodes });
  }

  #bindings(network: TableNetwork): NetworkBindings {
    return {
      raw: { frames: this.#frames(network) },
      VpnPacket: {
        unary: packetHandler((frame, { caller }) => {
          if (frame === undefined) return network.drops.add(DROP['not-bytes']);
          this.#switch.now = this.#effects.now();
          this.#switch.ingress(network, caller, frame, 0, frame.length);
          this.#flush();
        }),
      },
      VpnControl: { unary: controlHandler((message) => this.#control(message)) },
    };
  }

  #frames(network: TableNetwork): FrameHandler {
    let isFirst = true;
    return {
      frame: (data, offset, length, caller) => {
        if (isFirst) this.#switch.now = this.#effects.now();
        isFirst = false;
        this.#switch.ingress(network, caller, data, offset, length);
      },
      flush: () => {
        isFirst = true;
        this.#flush();
      },
    };
  }

  /** What the requestor changes, for this VM and those that get their frames from it. */
  #control({ networkId, change }: ControlMessage): void {
    const network = this.#table.network(networkId);
    // They stop at the same pair as this one, if at any.
    network.siblings?.change(change);
    this.#apply(network, change);
  }

  #apply(network: TableNetwork, change: TableChange): void {
    if (change.kind === 'add') this.#table.add(network.id, change.nodes);
    else if (change.kind === 'remove') this.#table.remove(network.id, change.nodeIds);
    else for (const pair of Object.entries(change.nodes)) this.#learn(network, ...pair);
  }

  /** What the VM that has the names has learned. */
  #learn(network: TableNetwork, address: string, nodeId: string): void {
    const bytes = parseIp(address);
    this.#table.learn(network, bytes, 0, bytes.length === 4 ? 4 : 6, nodeId, this.#effects.now());
  }

  /** The requestor has had its answer from the owner. */
  #changed(network: TableNetwork, change: TableChange): void {
    try {
      this.#apply(network, change);
    } catch (error) {
      this.#logger.debug({ err: error, network: network.id }, 'a change of the network’s nodes was refused');
    }
  }

  #fromGuest({ bytes, count, offsets, lengths }: FrameBatch): void {
    const each = this.#switch;
    const tap = this.#tap;
    each.now = this.#effects.now();
    each.refused = false;
    for (let index = 0; index < count; index++) {
      const offset = offsets[index] as number;
      const length = lengths[index] as number;
      if (tap !== null) tap(bytes, offset, length, 'out');
      each.egress(bytes, offset, length);
    }
    this.#flush();
    // A bus that is not there takes nothing for a long time; the guest's own time-outs are for that.
    if (each.refused && this.#bus.state === 'up') this.#hold();
  }

  #toGuest(bytes: Uint8Array, offset: number, length: number): boolean {
    const taken = this.#link.send(bytes, offset, length);
    if (taken && this.#tap !== null) this.#tap(bytes, offset, length, 'in');
    return taken;
  }

  #sendAsGuest(frame: Uint8Array): void {
    this.#switch.now = this.#effects.now();
    this.#switch.egress(frame, 0, frame.length);
    this.#flush();
  }

  #flush(): void {
    this.#flushing = null;
    this.#bus.flushFrames();
    this.#link.flush();
    for (const { network } of this.#parts) network.siblings?.flush();
    const { framesIn, bytesIn, framesOut, bytesOut } = this.#link.counters;
    const counters = this.#counters;
    counters[0] = framesOut;
    counters[1] = bytesOut;
    counters[2] = framesIn;
    counters[3] = bytesIn;
  }

  /** Lets the guest wait: what it sends now would be dropped. */
  #hold(): void {
    if (this.#held !== null) return;
    this.#link.pause();
    this.#held = setTimeout(() => {
      this.#held = null;
      this.#link.resume();
    }, HOLD);
  }

  #guestGone(error: Error | null): void {
    if (error === null) this.#logger.debug('the guest’s NIC is gone');
    else this.#logger.error({ err: error }, 'the guest’s NIC cannot be understood: its VPN has ended');
  }

  stats(): VpnStats {
    this.#flush();
    const roleOf = ({ names, role }: Part) => (names.held ? 'owner' : role === 'sibling' ? role : 'waiting');
    return {
      nic: nicOf(this.#link.counters),
      dropped: sumDrops(this.#switch, this.#table, this.#link),
      networks: this.#parts.map((part) => networkStats(this.#table, part.network, roleOf(part))),
    };
  }

  knows(address: string): boolean {
    const bytes = parseIp(address);
    return this.#table.networks.some((network) => network.has(bytes));
  }

  async ping(address: string, milliseconds: number): Promise<PingReply> {
    const target = parseIp(address);
    const peer = this.#table.get(target);
    if (peer === undefined) {
      throw new YavmError(
        'YAVM_E_NET_PING',
        `${formatIp(target)}: no node of this VM's networks has this address`,
        {
          hint: 'ya-vm net peers',
        },
      );
    }
    if (peer.origin === 'own' && !peer.local) {
      throw new YavmError('YAVM_E_NET_PING', `${peer.text} is this VM's own address`);
    }
    return await this.#pinger.ping(peer.network.nodeIp, target, milliseconds);
  }

  tap(tap: FrameTap | null): void {
    this.#tap = tap;
  }

  #summarize(): void {
    const { dropped, networks } = this.stats();
    const all = [dropped, ...networks.map((network) => network.dropped)];
    const total = all.flatMap((reasons) => Object.values(reasons)).reduce((sum, count) => sum + count, 0);
    if (total === this.#summed) return;
    const fields = {
      frames: total - this.#summed,
      dropped,
      networks: networks.map(({ id, dropped }) => ({ id, dropped })),
    };
    this.#summed = total;
    this.#logger.info(fields, 'frames of the VPN were dropped; by reason, since its start');
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    clearInterval(this.#summary);
    if (this.#held !== null) clearTimeout(this.#held);
    this.#summarize();
    this.#link.close();
    // First the names, then the lock: the next owner finds them free.
    await Promise.all(this.#parts.map(({ names }) => names.release()));
    await Promise.all(this.#parts.map(({ network }) => network.siblings?.close()));
    await this.#bus.close();
  }
}
