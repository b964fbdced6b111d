/** The relay's numbers, as others read them. */
import type { FrameLink } from '../nic/frame-link.ts';
import type { Dropped, NicCounters, VpnNetworkStats } from '../types.ts';
import type { VpnSwitch } from './switch.ts';
import type { TableNetwork, VpnTable } from './table.ts';

/** As the guest counts: what came over the cable is what it sent. */
export function nicOf({ framesIn, bytesIn, framesOut, bytesOut }: FrameLink['counters']): NicCounters {
  return { framesIn: framesOut, bytesIn: bytesOut, framesOut: framesIn, bytesOut: bytesIn };
}

/** Frames that belong to no network, and those that the cable lost: no frames, or not to be sent. */
export function sumDrops({ drops }: VpnSwitch, { networks }: VpnTable, { counters }: FrameLink): Dropped {
  // What found no room is counted where it was to come from.
  const full = networks.reduce((sum, network) => sum + (network.drops.byName['guest-full'] ?? 0), 0);
  const cable = counters.dropped - full;
  return cable > 0 ? { ...drops.byName, cable } : drops.byName;
}

export function networkStats(
  table: VpnTable,
  network: TableNetwork,
  role: VpnNetworkStats['role'],
): VpnNetworkStats {
  const { room = 0, source = 0, gone = 0 } = network.siblings?.dropped ?? {};
  const locals = { 'local-room': room, 'local-source': source, 'local-gone': gone };
  const dropped = Object.entries({ ...network.drops.byName, ...locals }).filter(([, count]) => count > 0);
  return {
    ...{ id: network.id, range: network.rangeText, role },
    ...{ peers: table.stats(network), dropped: Object.fromEntries(dropped) },
  };
}
