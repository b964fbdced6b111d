/** `ya-vm net peers`: a table of those that a VM's VPN knows. */
import { formatDuration } from '../lib/duration.ts';
import { printable } from '../lib/logger.ts';
import { formatSize } from '../lib/size.ts';
import type { NetworkStats, PeerStats } from '../network/types.ts';
import { print, printJson, styleOf } from './context.ts';
import { EXIT } from './exit.ts';
import type { Watched } from './net.ts';
import { alignColumns } from './style.ts';

const HEADINGS = ['NETWORK', 'ADDRESS', 'NODE', 'KIND', 'FRAMES IN', 'IN', 'FRAMES OUT', 'OUT', 'SEEN'];

export async function netPeers({ context, control }: Watched, options: { json?: boolean }): Promise<number> {
  const peers = peersOf(await control.stats());
  if (options.json) await printJson(context, peers);
  else {
    const [head, ...rows] = alignColumns([HEADINGS, ...peers.map((peer) => cells(peer, Date.now()))]);
    await print(context, styleOf(context, context.stdout).bold(head as string), ...rows);
  }
  return EXIT.ok;
}

type Peer = PeerStats & { network: string };

function peersOf({ vpn }: NetworkStats): Peer[] {
  return (vpn?.networks ?? []).flatMap(({ id, peers }) => peers.map((peer) => ({ network: id, ...peer })));
}

function cells(peer: Peer, now: number): string[] {
  return [
    // Chosen by a requestor: it must not move the cursor.
    printable(peer.network),
    peer.address,
    peer.nodeId,
    peer.kind,
    String(peer.framesIn),
    formatSize(peer.bytesIn),
    String(peer.framesOut),
    formatSize(peer.bytesOut),
    peer.lastSeen === null ? '-' : `${formatDuration(Math.max(0, now - peer.lastSeen))} ago`,
  ].map(printable);
}
