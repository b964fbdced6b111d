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
 * Bytes in each direction. Datagrams: what does not fit is lost, so as much as an ordinary user gets at most systems.
 */
const BUFFER = { udp: 4 << 20, 'unix-datagram': 1 << 20, tcp: 1 << 20, unix: 1 << 20 } as const;

/** @throws {Error} of the system: no descriptors left */
export function makeCable(native: Pick<HostNative, 'cable'>, link: LinkKind): Cable {
  const kind = KIND[link];
  const [near, far] = native.cable(link, BUFFER[link]);
  return { near: { kind, fd: near }, backend: { kind, fd: far } };
}
