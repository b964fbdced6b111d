/**
 * The network's thread: an activity's VPN relay and outbound filter, each there when it was asked for. See thread.ts for
 * the other side.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { loadNative } from '../../native/load.ts';
import { YavmError } from '../lib/errors.ts';
import { errorToWire } from '../lib/wire-error.ts';
import type { FrameTap } from './nic/frame-link.ts';
import type { OutboundFilter } from './outbound/filter-face.ts';
import type { Capture } from './pcap.ts';
import { threadLogger } from './thread-log.ts';
import type { RequestName, Requests, ThreadAnswer, ThreadRequest } from './thread-messages.ts';
import type { VpnRelay } from './vpn/relay-face.ts';

const port = parentPort;
if (port === null) throw new Error('this is the network thread of ya-vm, no program');

const post = (answer: ThreadAnswer) => port.postMessage(answer);
const { threshold } = workerData as { threshold: Parameters<typeof threadLogger>[1] | null };
const logger = threadLogger((log) => post({ log }), threshold ?? 'fatal');

let vpn: VpnRelay | null = null;
let outbound: OutboundFilter | null = null;
let capture: Capture | null = null;

type Handlers = {
  [Name in RequestName]: (
    give: Requests[Name]['give'],
  ) => Requests[Name]['get'] | Promise<Requests[Name]['get']>;
};

/** What each is made of is imported when it is asked for: a VM without a VPN does not pay for one. */
const HANDLERS: Handlers = {
  async openVpn({ setup, counters }) {
    const { openVpnRelay } = await import('./vpn/relay.ts');
    vpn = await openVpnRelay(setup, { native: loadNative(), logger, counters });
    vpn.tap(tapOf('eth0'));
  },
  async openOutbound({ setup, counters }) {
    const { openOutboundFilter } = await import('./outbound/filter-link.ts');
    outbound = openOutboundFilter(setup, { native: loadNative(), logger, counters });
    outbound.tap(tapOf('eth1'));
  },
  replaceUpstream({ fd }) {
    outbound?.replaceUpstream(fd);
  },
  stats: () => ({ vpn: vpn?.stats() ?? null, outbound: outbound?.stats() ?? null }),
  ping: ({ address, milliseconds }) => pingBy(address, milliseconds),
  async capture({ file }) {
    if (file === null) await endCapture();
    else await beginCapture(file);
  },
  async close() {
    const ends = [vpn?.close(), outbound?.close(), capture?.close()];
    vpn = outbound = capture = null;
    await Promise.all(ends);
  },
};

async function beginCapture(file: string): Promise<void> {
  const { openCapture } = await import('./pcap.ts');
  // One that a full disk ended leaves room for the next.
  if (capture !== null && capture.failure === null) {
    throw new YavmError('YAVM_E_NET_CAPTURE', `${file}: this VM's network is being captured already`, {
      hint: 'End the other capture first.',
    });
  }
  capture = openCapture(file, { logger });
  tapAll();
}

async function endCapture(): Promise<void> {
  const ended = capture;
  capture = null;
  tapAll();
  await ended?.close();
  // Who ends it learns that it had ended before.
  if (ended?.failure) throw ended.failure;
}

function tapAll(): void {
  vpn?.tap(tapOf('eth0'));
  outbound?.tap(tapOf('eth1'));
}

function tapOf(nic: 'eth0' | 'eth1'): FrameTap | null {
  const into = capture;
  return into && ((bytes, offset, length, direction) => into.frame(nic, bytes, offset, length, direction));
}

/** Whom the VPN does not know is looked for outside. */
async function pingBy(address: string, milliseconds: number) {
  if (vpn?.knows(address) || (vpn && !outbound)) return await vpn.ping(address, milliseconds);
  if (outbound) return await outbound.ping(address, milliseconds);
  throw new YavmError('YAVM_E_NET_PING', `${address}: this VM has no network`);
}

port.on('message', async ({ id, name, give }: ThreadRequest) => {
  try {
    // The request's name decides the type of what it gives; TypeScript cannot follow that through a union.
    const handler = HANDLERS[name] as (given: typeof give) => unknown;
    post({ id, get: await handler(give) });
  } catch (error) {
    post({ id, error: errorToWire(error) });
  }
});
