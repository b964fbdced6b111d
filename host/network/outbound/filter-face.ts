/** What the worker does with an activity's way to the internet; implemented by filter-link.ts. */

import type { FrameTap } from '../nic/frame-link.ts';
import type { OutboundSetup, OutboundStats, PingReply } from '../types.ts';
import type { RelayParts } from '../vpn/relay-face.ts';

export interface OutboundFilter {
  stats(): Omit<OutboundStats, 'upstream' | 'restarts'>;
  /** passt was started anew: connections of before are reset towards the guest. Takes `fd` over. */
  replaceUpstream(fd: number): void;
  /** An echo request to an address, as if the guest had sent it. @throws {YavmError} YAVM_E_NET_PING */
  ping(address: string, milliseconds: number): Promise<PingReply>;
  /** Shows every frame of the guest's NIC from now on, refused ones too; null: no more. */
  tap(tap: FrameTap | null): void;
  close(): Promise<void>;
}

export type OpenOutboundFilter = (setup: OutboundSetup, parts: RelayParts) => OutboundFilter;
