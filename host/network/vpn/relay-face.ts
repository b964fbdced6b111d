/** What the worker does with an activity's VPN; implemented by relay.ts. */
import type { HostNative } from '../../../native/host-face.ts';
import type { Logger } from '../../lib/logger.ts';
import type { FrameTap } from '../nic/frame-link.ts';
import type { PingReply, SharedCounters, VpnSetup, VpnStats } from '../types.ts';

export interface RelayParts {
  native: HostNative;
  logger: Logger;
  counters: SharedCounters;
}

export interface VpnRelay {
  stats(): VpnStats;
  /** Whether the address is in one of the networks: a ping to it goes this way. */
  knows(address: string): boolean;
  /** An echo request to a peer, as if the guest had sent it. @throws {YavmError} YAVM_E_NET_PING: no answer in time, no such peer */
  ping(address: string, milliseconds: number): Promise<PingReply>;
  /** Shows every frame of the guest's NIC from now on, both directions; null: no more. */
  tap(tap: FrameTap | null): void;
  /** Gives the names back, closes its connection and the cable. */
  close(): Promise<void>;
}

/** @throws {YavmError} YAVM_E_NET_… (networks that cannot be), YAVM_E_GSB_… (no identity, no bus) */
export type OpenVpnRelay = (setup: VpnSetup, parts: RelayParts) => Promise<VpnRelay>;
