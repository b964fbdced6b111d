/** ICMP and ICMPv6 messages that say that a packet is not let through (RFC 792, 1812 5.2.7.1, 4443 3.1), as whole frames. */
import { checksum } from './checksum.ts';
import { ETH, ICMP, ICMP_TYPE, ICMPV6_TYPE, IP_PROTOCOL, IPV4, IPV6, writeU16 } from './layout.ts';
import { writeEthernet, writeIp, writeTransportChecksum } from './write-ip.ts';

/** Bytes of the packet that a message quotes at most: its headers, and enough to find the socket that sent it. */
const QUOTE = 128;
/** Most bytes that a frame of this file has. */
export const UNREACHABLE_FRAME = ETH.payload + IPV6.header + ICMP.header + QUOTE;
/** Communication administratively prohibited. */
const PROHIBITED = { ipv4: 13, ipv6: 1 } as const;

export interface Unreachable {
  destinationMac: readonly number[];
  sourceMac: readonly number[];
  /** Who says so: 4 or 16 bytes. */
  source: Uint8Array;
  /** Who sent the packet. */
  destination: Uint8Array;
}

/** Writes the frame at the start of `into`; returns its length. The packet begins with its IP header. */
export function writeProhibited(
  into: Uint8Array,
  message: Unreachable,
  bytes: Uint8Array,
  packet: number,
  length: number,
): number {
  const version = message.source.length === 4 ? 4 : 6;
  const ip = ETH.payload;
  const icmp = ip + (version === 4 ? IPV4.header : IPV6.header);
  const quoted = Math.min(length, QUOTE);
  const size = ICMP.header + quoted;
  const protocol = version === 4 ? IP_PROTOCOL.icmp : IP_PROTOCOL.icmpv6;
  writeEthernet(into, message.destinationMac, message.sourceMac, version);
  writeIp(into, ip, message.source, message.destination, protocol, size);
  into.fill(0, icmp, icmp + ICMP.header);
  into[icmp + ICMP.type] = version === 4 ? ICMP_TYPE.unreachable : ICMPV6_TYPE.unreachable;
  into[icmp + ICMP.code] = version === 4 ? PROHIBITED.ipv4 : PROHIBITED.ipv6;
  into.set(bytes.subarray(packet, packet + quoted), icmp + ICMP.header);
  if (version === 4) writeU16(into, icmp + ICMP.checksum, checksum(into, icmp, size));
  else writeTransportChecksum(into, ip, icmp, size, protocol, ICMP.checksum);
  return icmp + size;
}
