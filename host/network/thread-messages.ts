/** What the main thread and the network's thread say to each other. */
import type { RecordLevel } from '../lib/logger.ts';
import type { WireError } from '../lib/wire-error.ts';
import type { OutboundSetup, OutboundStats, PingReply, SharedCounters, VpnSetup, VpnStats } from './types.ts';

/** What the thread knows of the network; the rest of {@link NetworkStats} is the main thread's. */
export interface ThreadStats {
  vpn: VpnStats | null;
  outbound: Omit<OutboundStats, 'upstream' | 'restarts'> | null;
}

/** Requests by name: what goes, and what comes back. */
export interface Requests {
  openVpn: { give: { setup: VpnSetup; counters: SharedCounters }; get: undefined };
  openOutbound: { give: { setup: OutboundSetup; counters: SharedCounters }; get: undefined };
  replaceUpstream: { give: { fd: number }; get: undefined };
  stats: { give: Record<never, never>; get: ThreadStats };
  ping: { give: { address: string; milliseconds: number }; get: PingReply };
  capture: { give: { file: string | null }; get: undefined };
  close: { give: Record<never, never>; get: undefined };
}

export type RequestName = keyof Requests;

export type ThreadRequest = {
  [Name in RequestName]: { id: number; name: Name; give: Requests[Name]['give'] };
}[RequestName];

export type ThreadAnswer =
  | { id: number; get: unknown }
  | { id: number; error: WireError }
  | { log: { level: RecordLevel; fields: Record<string, unknown>; message: string } };
