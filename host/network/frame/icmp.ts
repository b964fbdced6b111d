/** Echo (RFC 792, 4443) and neighbour discovery (RFC 4861), as whole frames. */
import { checksum } from './checksum.ts';
import { ETH, ICMP, ICMP_TYPE, ICMPV6_TYPE, IP_PROTOCOL, IPV4, IPV6, writeU16 } from './layout.ts';
import { writeEthernet, writeIp, writeTransportChecksum } from './write-ip.ts';

export interface Ends {
  sourceMac: readonly number[];
  destinationMac: readonly number[];
  /** Both of 4 or of 16 bytes. */
  source: Uint8Array;
  destination: Uint8Array;
}

export interface Echo {
  kind: 'request' | 'reply';
  id: number;
  sequence: number;
  data: Uint8Array;
}

const ECHO = {
  request: { 4: ICMP_TYPE.echo, 16: ICMPV6_TYPE.echo },
  reply: { 4: ICMP_TYPE.echoReply, 16: ICMPV6_TYPE.echoReply },
} as const;
/** Options of neighbour discovery that name a link-layer address: the sender's, the target's. */
const LINK_ADDRESS = { source: 1, target: 2 } as const;
/** Neighbours see that a message came from the same link by its hop limit. */
const ON_LINK_HOPS = 255;
/** Of an advertisement: it was asked for, and what it says counts. */
const SOLICITED_OVERRIDE = 0x60;

export function buildEcho(ends: Ends, { kind, id, sequence, data }: Echo): Uint8Array {
  const body = new Uint8Array(4 + data.length);
  writeU16(body, 0, id);
  writeU16(body, 2, sequence);
  body.set(data, 4);
  return buildIcmp(ends, ECHO[kind][ends.source.length as 4 | 16], body);
}

/** Who has `target`? To the group that its last three bytes make. */
export function buildNeighborSolicitation(
  sourceMac: readonly number[],
  source: Uint8Array,
  target: Uint8Array,
): Uint8Array {
  const group = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...target.subarray(13));
  const destinationMac = [0x33, 0x33, ...group.subarray(12)];
  const body = Uint8Array.of(0, 0, 0, 0, ...target, LINK_ADDRESS.source, 1, ...sourceMac);
  const ends = { sourceMac, destinationMac, source, destination: group };
  return buildIcmp(ends, ICMPV6_TYPE.neighborSolicitation, body, ON_LINK_HOPS);
}

/** The source has this MAC. */
export function buildNeighborAdvertisement(ends: Ends): Uint8Array {
  const { source, sourceMac } = ends;
  const body = Uint8Array.of(SOLICITED_OVERRIDE, 0, 0, 0, ...source, LINK_ADDRESS.target, 1, ...sourceMac);
  return buildIcmp(ends, ICMPV6_TYPE.neighborAdvertisement, body, ON_LINK_HOPS);
}

/** @param body What follows the checksum. */
function buildIcmp(ends: Ends, type: number, body: Uint8Array, hops?: number): Uint8Array {
  const { source, destination } = ends;
  const version = source.length === 4 ? 4 : 6;
  const ip = ETH.payload;
  const icmp = ip + (version === 4 ? IPV4.header : IPV6.header);
  const size = ICMP.id + body.length;
  const protocol = version === 4 ? IP_PROTOCOL.icmp : IP_PROTOCOL.icmpv6;
  const frame = new Uint8Array(icmp + size);
  writeEthernet(frame, ends.destinationMac, ends.sourceMac, version);
  writeIp(frame, ip, source, destination, protocol, size);
  if (version === 6 && hops !== undefined) frame[ip + IPV6.hopLimit] = hops;
  frame[icmp + ICMP.type] = type;
  frame.set(body, icmp + ICMP.id);
  if (version === 4) writeU16(frame, icmp + ICMP.checksum, checksum(frame, icmp, size));
  else writeTransportChecksum(frame, ip, icmp, size, protocol, ICMP.checksum);
  return frame;
}
