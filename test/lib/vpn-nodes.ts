/** Relays at the embedded node, each with a cable to a guest that the test plays, and requestors that speak GSB alone. */
import { join } from 'node:path';
import { connectGsb, type FramePusher, type GsbConnection } from '../../host/gsb/index.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { parseIp } from '../../host/network/frame/address.ts';
import { echoAnswer } from '../../host/network/frame/echo.ts';
import { formatMac, macOf } from '../../host/network/frame/mac.ts';
import { makeCable } from '../../host/network/nic/cable.ts';
import type { FrameLink } from '../../host/network/nic/frame-link.ts';
import { openFrameLink } from '../../host/network/nic/open.ts';
import type { LinkKind } from '../../host/network/types.ts';
import { type NetworkSource, parseNetworks } from '../../host/network/vpn/networks.ts';
import { openVpnRelay } from '../../host/network/vpn/relay.ts';
import type { VpnRelay } from '../../host/network/vpn/relay-face.ts';
import { LocalNetwork, LocalNode } from '../../host/node/index.ts';
import { loadNative } from '../../native/load.ts';
import { socketFolder } from './gsb-peer.ts';
import { type LogRecord, noteLog } from './vpn-relay.ts';

/** Milliseconds for whatever a test waits for. */
const WAIT = 60_000;

export interface Owner {
  teardown(end: () => void | Promise<void>): void;
}

/** Nodes that can call each other. */
export class TestNodes {
  readonly #network = new LocalNetwork();
  readonly #owner: Owner;

  constructor(t: Owner) {
    this.#owner = t;
  }

  /** @param address Default one of its own; the same one again for a node that was restarted. */
  async start(nodeId: string, address = join(socketFolder(this.#owner), 'gsb.sock')): Promise<LocalNode> {
    const node = await LocalNode.start({
      address: { kind: 'unix', path: address },
      logger: silentLogger,
      identity: { nodeId },
      network: this.#network,
    });
    this.#owner.teardown(() => node.close());
    return node;
  }
}

/** A guest's NIC: answers ARP and IPv4 echo requests, and keeps everything else. */
export class TestGuest {
  readonly link: FrameLink;
  readonly received: Uint8Array[] = [];
  /** All frames that came, answered ones too. */
  count = 0;

  constructor(link: FrameLink) {
    this.link = link;
    link.onBatch = ({ bytes, count, offsets, lengths }) => {
      this.count += count;
      for (let index = 0; index < count; index++) {
        const offset = offsets[index] as number;
        this.#take(Uint8Array.from(bytes.subarray(offset, offset + (lengths[index] as number))));
      }
    };
  }

  #take(frame: Uint8Array): void {
    const answer = echoAnswer(frame);
    if (answer === null) this.received.push(frame);
    else this.send(answer);
  }

  send(frame: Uint8Array): void {
    this.link.send(frame, 0, frame.length);
  }
}

export interface RelayAt {
  relay: VpnRelay;
  guest: TestGuest;
  records: LogRecord[];
}

export interface RelayAtOptions {
  requestorId?: string | null;
  kind?: LinkKind;
  /** Folder where siblings meet; default one of its own. */
  siblings?: string;
}

/** A relay on the node's bus; ends with the test. */
export async function relayAt(
  t: Owner,
  node: LocalNode,
  networks: NetworkSource[],
  { requestorId = null, kind = 'udp', siblings = socketFolder(t) }: RelayAtOptions = {},
): Promise<RelayAt> {
  const native = loadNative();
  const { near, backend } = makeCable(native, kind);
  const far = openFrameLink(native, backend);
  t.teardown(() => far.close());
  const records: LogRecord[] = [];
  const setup = {
    ...{ networks: parseNetworks(networks), gsbUrl: node.url, requestorId, nic: near },
    mac: formatMac(macOf('guest', parseIp(networks[0]?.nodeIp ?? ''))),
    siblings,
  };
  const parts = { native, logger: noteLog(records), counters: new SharedArrayBuffer(32) };
  const guest = new TestGuest(far);
  const relay = await openVpnRelay(setup, parts);
  t.teardown(() => relay.close());
  return { relay, guest, records };
}

/** A peer's program on its node's bus: takes the frames of a network as a requestor's yagna does. */
export class TestRequestor {
  readonly gsb: GsbConnection;
  readonly frames: { caller: string; frame: Uint8Array }[] = [];
  count = 0;
  readonly #pushers = new Map<string, FramePusher>();
  /** Keeps no frames, counts them alone. */
  forgets = false;

  private constructor(gsb: GsbConnection) {
    this.gsb = gsb;
  }

  static async at(t: Owner, node: LocalNode, network: string): Promise<TestRequestor> {
    const requestor = new TestRequestor(connectGsb({ address: node.address, logger: silentLogger }));
    t.teardown(() => requestor.gsb.close());
    const frame = (data: Uint8Array, offset: number, length: number, caller: string) => {
      requestor.count++;
      if (requestor.forgets) return;
      requestor.frames.push({ caller, frame: Uint8Array.from(data.subarray(offset, offset + length)) });
    };
    await requestor.gsb.bind(`/public/vpn/${network}/raw`, { frames: { frame } });
    return requestor;
  }

  /** A raw push to a node's end of the network; goes out at the end of the turn. */
  push(to: string, network: string, frame: Uint8Array): boolean {
    const address = `/udp/net/${to}/vpn/${network}/raw`;
    const pusher = this.#pushers.get(address) ?? this.gsb.pusher(address, 'local');
    this.#pushers.set(address, pusher);
    return pusher.push(frame, 0, frame.length);
  }
}

/** Waits until it is so. */
export async function until(done: () => boolean, what: string): Promise<void> {
  const stop = new AbortController();
  const wait = async () => {
    while (!done() && !stop.signal.aborted) await new Promise((resolve) => setTimeout(resolve, 2));
  };
  try {
    await withDeadline(wait(), WAIT, what);
  } finally {
    stop.abort();
  }
}
