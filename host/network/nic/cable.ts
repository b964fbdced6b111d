/** Cables between a NIC and whoever relays or filters its frames. */
import type { HostNative } from '../../../native/host-face.ts';
import type { LinkKind, NicBackend } from '../types.ts';

/** The near end of a cable: ours. */
export interface NearEnd {
  kind: 'datagram' | 'stream';
  fd: number;
}

/** Two connected ends; both are the caller's, to be handed on or closed. */
export interface Cable {
  near: NearEnd;
  backend: NicBackend & { kind: NearEnd['kind'] };
}

const KIND = { udp: 'datagram', 'unix-datagram': 'datagram', tcp: 'stream', unix: 'stream' } as const;

/**
 * Bytes in each direction, as far as the system allows. UDP datagrams that find no room are lost. Debian gives an ordinary user
 * 212,992 bytes (net.core.rmem_max), which hold 185 frames of a VPN: of frames sent as fast as they can be, two thirds are lost
 * then, and with 4 MiB next to none (test/bench/cable.ts).
 */
const BUFFER = { udp: 4 << 20, 'unix-datagram': 1 << 20, tcp: 1 << 20, unix: 1 << 20 } as const;

/** @throws {Error} of the system: no descriptors left */
export function makeCable(native: Pick<HostNative, 'cable'>, link: LinkKind): Cable {
  const kind = KIND[link];
  const [near, far] = native.cable(link, BUFFER[link]);
  return { near: { kind, fd: near }, backend: { kind, fd: far } };
}
