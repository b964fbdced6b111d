/** The networks of the self-test's VM: cables as a task's NICs have them, with somebody at the other end who answers. */
import type { LinkSpec } from '../../guest/protocol/messages.ts';
import type { HostNative } from '../../native/host-face.ts';
import { echoAnswer } from '../network/frame/echo.ts';
import { outboundLink, vpnLink } from '../network/guest-links.ts';
import { makeCable } from '../network/nic/cable.ts';
import type { FrameLink } from '../network/nic/frame-link.ts';
import { openFrameLink } from '../network/nic/open.ts';
import { INET, type LinkKind, type NicBackend } from '../network/types.ts';

/** Of a VPN that only this VM is in. */
const VPN = { nodeIp: '10.77.0.2', prefix: 24, peer: '10.77.0.1' } as const;

/** Where an answer comes from when frames cross, by the capability that this shows. */
export const TEST_PEERS = { vpn: VPN.peer, inet: INET.gateway } as const;

export interface TestNetwork {
  links: LinkSpec[];
  /** For the links, in their order; to be taken over. */
  nics: NicBackend[];
  close(): void;
}

/** Kinds of cables as an activity has them: datagrams for the VPN, a stream for the way out. */
const KINDS: readonly LinkKind[] = ['udp', 'unix'];

export function openTestNetwork(native: HostNative): TestNetwork {
  const near: FrameLink[] = [];
  const nics: NicBackend[] = [];
  for (const kind of KINDS) {
    const cable = makeCable(native, kind);
    nics.push(cable.backend);
    near.push(answering(openFrameLink(native, cable.near)));
  }
  return {
    links: [vpnLink([VPN]), outboundLink({ ipv6: false })],
    nics,
    close() {
      for (const link of near) link.close();
    },
  };
}

function answering(link: FrameLink): FrameLink {
  link.onBatch = ({ bytes, count, offsets, lengths }) => {
    for (let index = 0; index < count; index++) {
      const at = offsets[index] as number;
      const answer = echoAnswer(bytes.subarray(at, at + (lengths[index] as number)));
      if (answer) link.send(answer, 0, answer.length);
    }
  };
  return link;
}
