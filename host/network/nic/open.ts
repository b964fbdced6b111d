/** The link at the near end of a cable, whichever kind that is. */
import type { NearEnd } from './cable.ts';
import { DatagramLink } from './datagram-link.ts';
import type { FrameLink } from './frame-link.ts';
import type { LinkNative } from './socket-link.ts';
import { StreamLink } from './stream-link.ts';

/** A link in this thread; takes `fd` over. */
export function openFrameLink(native: LinkNative, { kind, fd }: NearEnd): FrameLink {
  return kind === 'datagram' ? new DatagramLink(native, fd) : new StreamLink(native, fd);
}
