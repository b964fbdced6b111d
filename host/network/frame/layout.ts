/**
 * Ethernet, ARP, IPv4, IPv6, TCP, UDP and ICMP as offsets into a frame: hot paths read fields where they lie, and make no
 * objects. All functions take the frame's bytes and the frame's offset; who calls has checked the length.
 */

// ---------------------------------------------------------------- Ethernet (IEEE 802.3, without preamble and FCS)

export const ETH = { destination: 0, source: 6, type: 12, payload: 14 } as const;
export const ETHER_TYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;

// ---------------------------------------------------------------- ARP (RFC 826), counted from its first byte

export const ARP = {
  hardware: 0,
  protocol: 2,
  hardwareLength: 4,
  protocolLength: 5,
  operation: 6,
  senderMac: 8,
  senderIp: 14,
  targetMac: 18,
  targetIp: 24,
  length: 28,
} as const;
export const ARP_OPERATION = { request: 1, reply: 2 } as const;

// ---------------------------------------------------------------- IPv4 (RFC 791), IPv6 (RFC 8200)

export const IPV4 = {
  versionLength: 0,
  totalLength: 2,
  id: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
  header: 20,
} as const;
export const IPV6 = {
  payloadLength: 4,
  nextHeader: 6,
  hopLimit: 7,
  source: 8,
  destination: 24,
  header: 40,
} as const;
/** IANA protocol numbers; those of IPv6's extension headers with them. */
export const IP_PROTOCOL = {
  hopByHop: 0,
  icmp: 1,
  tcp: 6,
  udp: 17,
  routing: 43,
  fragment: 44,
  icmpv6: 58,
  none: 59,
  destinationOptions: 60,
} as const;

// ---------------------------------------------------------------- TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792, 4443)

export const TCP = {
  sourcePort: 0,
  destinationPort: 2,
  sequence: 4,
  acknowledgement: 8,
  offset: 12,
  flags: 13,
  window: 14,
  checksum: 16,
  header: 20,
} as const;
export const TCP_FLAG = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;
export const UDP = { sourcePort: 0, destinationPort: 2, length: 4, checksum: 6, header: 8 } as const;
export const ICMP = { type: 0, code: 1, checksum: 2, id: 4, sequence: 6, header: 8 } as const;
export const ICMP_TYPE = { echoReply: 0, unreachable: 3, echo: 8 } as const;
export const ICMPV6_TYPE = {
  unreachable: 1,
  echo: 128,
  echoReply: 129,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighborSolicitation: 135,
  neighborAdvertisement: 136,
  redirect: 137,
  listenerReport2: 143,
} as const;

// ---------------------------------------------------------------- fields

export function readU16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

/** Unsigned. */
export function readU32(bytes: Uint8Array, at: number): number {
  return ((readU16(bytes, at) << 16) | readU16(bytes, at + 2)) >>> 0;
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  writeU16(bytes, at, value >>> 16);
  writeU16(bytes, at + 2, value & 0xffff);
}
