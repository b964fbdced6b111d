/** The network of a recorded activity: ours, with the recorded runtime's answers in place of a guest. */
import { ActivityNetwork } from '../../host/exe-unit/network.ts';
import type { Logger } from '../../host/lib/logger.ts';
import { ARP, ETH, ETHER_TYPE, IPV4, readU16 } from '../../host/network/frame/layout.ts';
import { openFrameLink } from '../../host/network/nic/open.ts';
import type { NicBackend, VpnNetwork } from '../../host/network/types.ts';
import { loadNative } from '../../native/load.ts';

export interface RecordedNetwork {
  close(): Promise<void>;
}

/** @throws what ours does */
export async function openNetwork(networks: readonly VpnNetwork[], logger: Logger): Promise<RecordedNetwork> {
  const network = await ActivityNetwork.open(
    { vpn: [...networks], internet: null, link: 'udp' },
    { gsbUrl: process.env.GSB_URL ?? null, requestorId: null, env: process.env, logger },
  );
  const [nic] = network.plugs().nics as [NicBackend & { kind: 'datagram' }];
  const link = openFrameLink(loadNative(), nic);
  link.onBatch = ({ bytes, count, offsets, lengths }) => {
    for (let index = 0; index < count; index++) {
      const at = offsets[index] as number;
      const frame = bytes.slice(at, at + (lengths[index] as number));
      mirror(frame);
      link.send(frame, 0, frame.length);
    }
  };
  return {
    async close() {
      link.close();
      await network.close();
    },
  };
}

/** The recorded runtime sends each frame back with its two sides changed, and nothing else: an ARP request stays one. */
export function mirror(frame: Uint8Array): void {
  swap(frame, ETH.destination, ETH.source, 6);
  const payload = ETH.payload;
  const type = readU16(frame, ETH.type);
  if (type === ETHER_TYPE.arp && frame.length >= payload + ARP.length) {
    swap(frame, payload + ARP.senderMac, payload + ARP.targetMac, 6);
    swap(frame, payload + ARP.senderIp, payload + ARP.targetIp, 4);
  }
  if (type === ETHER_TYPE.ipv4 && frame.length >= payload + IPV4.header) {
    swap(frame, payload + IPV4.source, payload + IPV4.destination, 4);
  }
}

function swap(bytes: Uint8Array, a: number, b: number, length: number): void {
  const first = bytes.slice(a, a + length);
  bytes.copyWithin(a, b, b + length);
  bytes.set(first, b);
}
