/** Headers of the frames that we make ourselves: Ethernet, IPv4 and IPv6, and the checksum of what lies inside. */
import { checksum, foldSum, pseudoHeaderSum, sumWords } from './checksum.ts';
import { ETH, ETHER_TYPE, IP_PROTOCOL, IPV4, IPV6, writeU16 } from './layout.ts';

/** Hop limit. */
const HOPS = 64;

/** An Ethernet header at the start. */
export function writeEthernet(
  into: Uint8Array,
  destination: readonly number[],
  source: readonly number[],
  version: 4 | 6,
): void {
  into.set(destination, ETH.destination);
  into.set(source, ETH.source);
  writeU16(into, ETH.type, version === 4 ? ETHER_TYPE.ipv4 : ETHER_TYPE.ipv6);
}

/** An IP header at `at`, of the version that the addresses have. `length`: of what follows. */
export function writeIp(
  into: Uint8Array,
  at: number,
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  length: number,
): void {
  if (source.length === 4) {
    into.fill(0, at, at + IPV4.header);
    into[at] = 0x45;
    writeU16(into, at + IPV4.totalLength, IPV4.header + length);
    // Never in pieces: so the identification means nothing (RFC 6864).
    writeU16(into, at + IPV4.fragment, 0x4000);
    into[at + IPV4.ttl] = HOPS;
    into[at + IPV4.protocol] = protocol;
    into.set(source, at + IPV4.source);
    into.set(destination, at + IPV4.destination);
    writeU16(into, at + IPV4.checksum, checksum(into, at, IPV4.header));
  } else {
    into.fill(0, at, at + IPV6.header);
    into[at] = 0x60;
    writeU16(into, at + IPV6.payloadLength, length);
    into[at + IPV6.nextHeader] = protocol;
    into[at + IPV6.hopLimit] = HOPS;
    into.set(source, at + IPV6.source);
    into.set(destination, at + IPV6.destination);
  }
}

/** The checksum of TCP, UDP or ICMPv6 at `field` of the `length` bytes at `at`, behind the IP header at `ip`. */
export function writeTransportChecksum(
  into: Uint8Array,
  ip: number,
  at: number,
  length: number,
  protocol: number,
  field: number,
): void {
  writeU16(into, at + field, 0);
  const version = (into[ip] as number) >> 4;
  const pseudo =
    version === 4
      ? pseudoHeaderSum(into, ip + IPV4.source, 4, protocol, length)
      : pseudoHeaderSum(into, ip + IPV6.source, 16, protocol, length);
  const sum = foldSum(sumWords(into, at, length, pseudo));
  // UDP has no checksum where it says zero (RFC 768).
  writeU16(into, at + field, sum === 0 && protocol === IP_PROTOCOL.udp ? 0xffff : sum);
}
