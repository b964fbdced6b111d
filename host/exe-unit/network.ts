/**
 * A VM's networks while it lives: the thread that frames move in, the cables of its NICs, and what is at their other ends.
 * Made before the VM boots, so that no frame of it is lost, and ended with it.
 */
import { join } from 'node:path';
import type { LinkSpec, NetworkSpec } from '../../guest/protocol/messages.ts';
import { loadNative } from '../../native/load.ts';
import { toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { runBase } from '../lib/paths.ts';
import { NETWORK_SOCKET, type NetworkControl, type NetworkControlServer } from '../network/control-face.ts';
import { serveNetworkControl } from '../network/control-server.ts';
import { vpnLink } from '../network/guest-links.ts';
import { makeCable } from '../network/nic/cable.ts';
import { type Outbound, startOutbound } from '../network/outbound/start-outbound.ts';
import { NetworkThread } from '../network/thread.ts';
import type { NetworkStats, NicBackend, PingReply } from '../network/types.ts';
import { ensurePrivate } from '../runtime/run-folder.ts';
import type { StartOptions } from '../runtime/start-vm.ts';
import type { UserNetwork } from '../runtime/user-network.ts';
import type { NetworkPlan } from './network-plan.ts';

export interface NetworkParts {
  /** The bus; null: there is none, and no VPN. */
  gsbUrl: string | null;
  /** Activities of one requestor share their networks on a host; null: with nobody. */
  requestorId: string | null;
  env: Readonly<Record<string, string | undefined>>;
  logger: Logger;
  /** Gives the opening up. */
  signal?: AbortSignal;
}

export class ActivityNetwork implements NetworkControl {
  readonly #thread: NetworkThread;
  readonly #logger: Logger;
  #links: LinkSpec[] = [];
  #nics: NicBackend[] = [];
  #userNetwork: UserNetwork | undefined;
  #outbound: Outbound | null = null;
  #server: NetworkControlServer | null = null;
  #closing: Promise<void> | null = null;

  private constructor(logger: Logger) {
    this.#logger = logger;
    this.#thread = new NetworkThread(logger);
    void this.#thread.failed.then((error) => logger.error({ err: error }, 'the network has failed'));
  }

  /**
   * Nothing is left when this fails.
   * @throws {YavmError} YAVM_E_NET_…, YAVM_E_GSB_…: no identity, no bus
   */
  static async open(plan: NetworkPlan, parts: NetworkParts): Promise<ActivityNetwork> {
    const { signal, logger } = parts;
    signal?.throwIfAborted();
    const network = new ActivityNetwork(logger);
    const giveUp = () => void network.close();
    signal?.addEventListener('abort', giveUp, { once: true });
    try {
      if (plan.pcap !== undefined) await network.capture(plan.pcap);
      // In the order of the NICs.
      if (plan.vpn.length > 0) await network.#openVpn(plan, parts);
      if (plan.internet !== null) await network.#openOutbound(plan.internet, parts);
      signal?.throwIfAborted();
      return network;
    } catch (error) {
      await network.close();
      throw signal?.aborted ? signal.reason : error;
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
  }

  /** What the guest is told, beside what it is told anyway. */
  get spec(): NetworkSpec {
    const nameservers = this.#outbound?.nameservers;
    return { links: this.#links, ...(nameservers && { nameservers }) };
  }

  /** For the VM's start, which takes the descriptors over. To be called once. */
  plugs(): Pick<StartOptions, 'nics' | 'userNetwork'> {
    const [nics, userNetwork] = [this.#nics, this.#userNetwork];
    this.#nics = [];
    this.#userNetwork = undefined;
    return { nics, userNetwork };
  }

  /** Bytes that the VM's NICs took and sent. */
  get usage(): { networkIn: number; networkOut: number } {
    const { vpn, outbound } = this.#thread.counters;
    return { networkIn: vpn.bytesIn + outbound.bytesIn, networkOut: vpn.bytesOut + outbound.bytesOut };
  }

  async stats(): Promise<NetworkStats> {
    const { vpn, outbound } = await this.#thread.stats();
    const way = this.#outbound?.stats;
    return { vpn, outbound: outbound && way ? { ...outbound, ...way } : null };
  }

  ping(address: string, milliseconds: number): Promise<PingReply> {
    return this.#thread.ping(address, milliseconds);
  }

  capture(file: string | null): Promise<void> {
    return this.#thread.capture(file);
  }

  /** Lets this user's other processes ask (`ya-vm net`); without that the activity goes on. `folder`: the VM's run folder. */
  async serve(folder: string): Promise<void> {
    try {
      this.#server = await serveNetworkControl(this, join(folder, NETWORK_SOCKET), this.#logger);
    } catch (error) {
      this.#logger.warn({ err: toError(error) }, 'ya-vm net cannot reach this VM');
    }
  }

  /** Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    await this.#server?.close();
    const { vpn, outbound } = this.#thread.counters;
    this.#logger.debug({ vpn, outbound }, 'the network ends');
    // At once: passt's end is no failure then.
    await Promise.all([this.#outbound?.close(), this.#thread.close()]);
    // What no VM has taken over.
    const { nics = [], userNetwork } = this.plugs();
    for (const cable of [...nics, userNetwork]) if (cable) loadNative().close(cable.fd);
  }

  async #openVpn(plan: NetworkPlan, { gsbUrl, requestorId, env }: NetworkParts): Promise<void> {
    if (gsbUrl === null) {
      throw new YavmError('YAVM_E_NET_BUS', 'a VPN needs the bus of a node, and there is none');
    }
    const siblings = runBase(env);
    ensurePrivate(siblings);
    const link = vpnLink(plan.vpn);
    const { near, backend } = makeCable(loadNative(), plan.link);
    this.#links.push(link);
    this.#nics.push(backend);
    await this.#thread.openVpn({
      networks: plan.vpn,
      gsbUrl,
      requestorId,
      nic: near,
      mac: link.mac,
      siblings,
    });
  }

  async #openOutbound(
    { policy, publish, mtu }: NonNullable<NetworkPlan['internet']>,
    { env, logger }: NetworkParts,
  ): Promise<void> {
    this.#outbound = await startOutbound({
      policy,
      publish,
      mtu,
      native: loadNative(),
      env,
      logger,
      thread: this.#thread,
    });
    this.#links.push(this.#outbound.link);
    this.#nics.push(this.#outbound.backend);
    this.#userNetwork = this.#outbound.userNetwork;
    void this.#outbound.failed.then((error) =>
      logger.error({ err: error }, 'the way to the internet failed'),
    );
  }
}
