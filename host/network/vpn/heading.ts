/**
 * Where a frame comes from and goes to, as offsets into it. Every length is checked before it is trusted, and nothing is
 * made: one heading is filled again and again.
 */
import {
  ARP,
  ETH,
  ETHER_TYPE,
  ICMP,
  ICMPV6_TYPE,
  IP_PROTOCOL,
  IPV4,
  IPV6,
  readU16,
  readU32,
} from '../frame/layout.ts';
import { ETHERNET_HEADER } from '../types.ts';
import { DROP } from './drops.ts';

/** To whom: one address, all in the network, or all in all networks of the family. */
export const CAST = { one: 0, network: 1, all: 2 } as const;

/** What {@link readHeading} returns when the frame can be understood. */
export const UNDERSTOOD = -1;

/** MLD (RFC 2710, RFC 3810): query, report, done. */
const MLD = { query: 130, report: 131, done: 132 } as const;

export class Heading {
  family: 4 | 6 = 4;
  /** Offsets of the addresses: of ARP, the sender's and target's; of a neighbour solicitation to many, what it asks for. */
  source = 0;
  target = 0;
  cast: number = CAST.one;
  /** Asks who has the target's address: ARP, or a neighbour solicitation to many. */
  asks = false;
  /** Speaks for the NIC, not for one of its addresses: ARP, and what of ICMPv6 hosts say to neighbours. */
  neighbourly = false;
}

/** @returns {@link UNDERSTOOD}, or a reason of {@link DROP} */
export function readHeading(into: Heading, bytes: Uint8Array, offset: number, length: number): number {
  if (length < ETHERNET_HEADER) return DROP.short;
  into.asks = false;
  into.neighbourly = false;
  into.cast = CAST.one;
  const at = offset + ETH.payload;
  const left = length - ETH.payload;
  switch (readU16(bytes, offset + ETH.type)) {
    case ETHER_TYPE.ipv4:
      return readIpv4(into, bytes, at, left);
    case ETHER_TYPE.arp:
      return readArp(into, bytes, at, left);
    case ETHER_TYPE.ipv6:
      return readIpv6(into, bytes, at, left);
    default:
      return DROP['not-ip'];
  }
}

function readArp(into: Heading, bytes: Uint8Array, at: number, left: number): number {
  if (left < ARP.length) return DROP.short;
  if (readU16(bytes, at + ARP.protocol) !== ETHER_TYPE.ipv4) return DROP['not-ip'];
  // Other lengths would put the addresses elsewhere.
  if (bytes[at + ARP.hardwareLength] !== 6 || bytes[at + ARP.protocolLength] !== 4) return DROP.malformed;
  into.family = 4;
  into.source = at + ARP.senderIp;
  into.target = at + ARP.targetIp;
  into.asks = true;
  into.neighbourly = true;
  return UNDERSTOOD;
}

function readIpv4(into: Heading, bytes: Uint8Array, at: number, left: number): number {
  if (left < IPV4.header) return DROP.short;
  const first = bytes[at + IPV4.versionLength] as number;
  const header = (first & 15) * 4;
  const total = readU16(bytes, at + IPV4.totalLength);
  if (first >> 4 !== 4 || header < IPV4.header || total < header) return DROP.malformed;
  if (total > left) return DROP.short;
  into.family = 4;
  into.source = at + IPV4.source;
  into.target = at + IPV4.destination;
  const high = bytes[into.target] as number;
  if (high >= 224) {
    if (high < 240) into.cast = CAST.network;
    else if (readU32(bytes, into.target) === 0xffffffff) into.cast = CAST.all;
  }
  return UNDERSTOOD;
}

function readIpv6(into: Heading, bytes: Uint8Array, at: number, left: number): number {
  if (left < IPV6.header) return DROP.short;
  if ((bytes[at] as number) >> 4 !== 6) return DROP.malformed;
  const payload = readU16(bytes, at + IPV6.payloadLength);
  if (IPV6.header + payload > left) return DROP.short;
  into.family = 6;
  into.source = at + IPV6.source;
  into.target = at + IPV6.destination;
  const icmp = findIcmp(bytes, at, IPV6.header + payload);
  const type = icmp === 0 ? -1 : (bytes[icmp] as number);
  into.neighbourly = isNeighbourly(type);
  if (bytes[into.target] === 0xff) {
    const asked = icmp + ICMP.header;
    if (type === ICMPV6_TYPE.neighborSolicitation && asked + 16 <= at + IPV6.header + payload) {
      into.target = asked;
      into.asks = true;
    } else {
      into.cast = CAST.network;
    }
  }
  return UNDERSTOOD;
}

/** Where the ICMPv6 message is; behind hop-by-hop options (MLD has them), and no other header. 0: there is none. */
function findIcmp(bytes: Uint8Array, at: number, length: number): number {
  let next = bytes[at + IPV6.nextHeader] as number;
  let header: number = IPV6.header;
  if (next === IP_PROTOCOL.hopByHop && header + 8 <= length) {
    next = bytes[at + header] as number;
    header += ((bytes[at + header + 1] as number) + 1) * 8;
  }
  return next === IP_PROTOCOL.icmpv6 && header + ICMP.header <= length ? at + header : 0;
}

/** Neither advertisements nor redirects of routers: no task's VM is one for its neighbours. */
function isNeighbourly(type: number): boolean {
  switch (type) {
    case ICMPV6_TYPE.neighborSolicitation:
    case ICMPV6_TYPE.neighborAdvertisement:
    case ICMPV6_TYPE.routerSolicitation:
    case ICMPV6_TYPE.listenerReport2:
    case MLD.query:
    case MLD.report:
    case MLD.done:
      return true;
    default:
      return false;
  }
}

/** No address yet: 0.0.0.0 or ::. */
export function isUnspecified(heading: Heading, bytes: Uint8Array): boolean {
  const { source, family } = heading;
  const length = family === 4 ? 4 : 16;
  for (let at = source; at < source + length; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** fe80::/10. */
export function isLinkLocal(heading: Heading, bytes: Uint8Array): boolean {
  const { source, family } = heading;
  return family === 6 && bytes[source] === 0xfe && ((bytes[source + 1] as number) & 0xc0) === 0x80;
}
