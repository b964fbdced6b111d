/** A node for one host: a bus, and the services on it that a supervisor needs. For local runs and for tests. */
import { formatGsbUrl } from '../gsb/address.ts';
import { connectGsb } from '../gsb/connection.ts';
import type { Gsb, GsbAddress } from '../gsb/types.ts';
import type { Logger } from '../lib/logger.ts';
import { ActivityService } from './activity-service.ts';
import { type Clock, systemClock } from './clock.ts';
import { type Identity, serveIdentity } from './identity-service.ts';
import type { LocalNetwork } from './network.ts';
import { Requestor } from './requestor.ts';
import { GsbRouter, type RouterEvent } from './router.ts';

/** A node that nobody on a network knows. */
export const LOCAL_IDENTITY: Identity = { nodeId: `0x${'0'.repeat(39)}1`, alias: 'local' };

export interface LocalNodeOptions {
  address: GsbAddress;
  logger: Logger;
  clock?: Clock;
  /** Default {@link LOCAL_IDENTITY}. */
  identity?: Identity;
  /** Nodes that it can call, and that can call it; each has an identity of its own. Default: none. */
  network?: LocalNetwork;
  /** Take reports of activities that nobody announced. */
  acceptUnknown?: boolean;
  report?: (event: RouterEvent) => void;
}

export class LocalNode {
  /** With the port that the system chose. */
  readonly address: GsbAddress;
  readonly identity: Identity;
  readonly service: ActivityService;
  /** The node's own connection. */
  readonly gsb: Gsb;
  readonly #router: GsbRouter;

  private constructor(router: GsbRouter, address: GsbAddress, options: LocalNodeOptions) {
    const { logger, clock = systemClock, identity = LOCAL_IDENTITY, acceptUnknown } = options;
    this.#router = router;
    this.address = address;
    this.identity = identity;
    this.service = new ActivityService({ clock, acceptUnknown });
    this.gsb = connectGsb({ address, logger });
  }

  /** Listens, and has its services registered. @throws {YavmError} YAVM_E_NODE_LISTEN, YAVM_E_NODE_TAKEN */
  static async start(options: LocalNodeOptions): Promise<LocalNode> {
    const { logger, clock, report, network, identity = LOCAL_IDENTITY } = options;
    const router = new GsbRouter({ logger, clock, report, network, nodeId: identity.nodeId });
    let node: LocalNode | undefined;
    try {
      node = new LocalNode(router, await router.listen(options.address), options);
      await Promise.all([node.service.bind(node.gsb), serveIdentity(node.gsb, node.identity)]);
      return node;
    } catch (error) {
      await (node ?? router).close();
      throw error;
    }
  }

  /** For GSB_URL. */
  get url(): string {
    return formatGsbUrl(this.address);
  }

  /** One that speaks to `activity` over the node's own connection. */
  requestor(activity: string): Requestor {
    return new Requestor({ gsb: this.gsb, activity });
  }

  async close(): Promise<void> {
    this.service.close();
    await this.gsb.close();
    await this.#router.close();
  }
}
