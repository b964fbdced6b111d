/** ARP and neighbour discovery between the guest and its gateway: nothing else on this cable has an address. */
import { parseIp } from '../frame/address.ts';
import {
  ARP,
  ARP_OPERATION,
  ETH,
  ETHER_TYPE,
  ICMP,
  ICMPV6_TYPE,
  IPV6,
  readU16,
  readU32,
} from '../frame/layout.ts';
import { BROADCAST_MAC, parseMac } from '../frame/mac.ts';
import { INET } from '../types.ts';
import { LOCAL, type Local } from './flows.ts';
import type { Packet } from './packet.ts';

/** The other sides' MACs that are known: passt has one; QEMU's user network makes one for each of its addresses. */
const MAX_MACS = 8;
/** Neighbour discovery has not passed a router (RFC 4861 7.1). */
const HOPS = 255;
/** Offset of the target behind ICMPv6's header, and the least size. */
const TARGET = ICMP.header;
const LEAST = ICMP.header + 16;
const ETHERNET = 1;
const BROADCAST = Uint8Array.from(BROADCAST_MAC);

export class Neighbours {
  /** The guest's link-local address is made of its MAC (RFC 4291 appendix A): the kernel's default. */
  readonly guest = [parseIp(INET.guest), parseIp(INET.guest6), linkLocalOf(parseMac(INET.guestMac))] as const;
  readonly guestMac: readonly number[] = parseMac(INET.guestMac);
  readonly #guestMac = Uint8Array.from(this.guestMac);
  readonly #macs: Uint8Array[] = [Uint8Array.from(parseMac(INET.gatewayMac))];
  readonly #ipv4: Uint8Array[];
  readonly #ipv6: Uint8Array[];

  /** The resolver may be a neighbour, too. */
  constructor(dns: { ipv4: string; ipv6: string | null }) {
    this.#ipv4 = [INET.gateway, dns.ipv4].map(parseIp);
    this.#ipv6 = [INET.gateway6, ...(dns.ipv6 === null ? [] : [dns.ipv6])].map(parseIp);
  }

  /** What the other side says first. */
  get gatewayMac(): number[] {
    return Array.from(this.#macs[0] as Uint8Array);
  }

  isGuestMac(bytes: Uint8Array, at: number): boolean {
    return same(bytes, at, this.#guestMac);
  }

  isGatewayMac(bytes: Uint8Array, at: number): boolean {
    for (const mac of this.#macs) if (same(bytes, at, mac)) return true;
    return false;
  }

  /** Which of the guest's addresses is at `at`; null: none. */
  localAt(version: 0 | 4 | 6, bytes: Uint8Array, at: number): Local | null {
    if (version === 4) return same(bytes, at, this.guest[LOCAL.ipv4]) ? LOCAL.ipv4 : null;
    if (same(bytes, at, this.guest[LOCAL.ipv6])) return LOCAL.ipv6;
    return same(bytes, at, this.guest[LOCAL.linkLocal]) ? LOCAL.linkLocal : null;
  }

  /** ARP from the guest: its question for the gateway, or the answer to one of the gateway's. */
  arpFromGuest({ bytes, start, ip, size }: Packet): boolean {
    if (!isArp(bytes, ip, size)) return false;
    const request = readU16(bytes, ip + ARP.operation) === ARP_OPERATION.request;
    const to = start + ETH.destination;
    return (
      ((request && same(bytes, to, BROADCAST)) || this.isGatewayMac(bytes, to)) &&
      this.isGuestMac(bytes, ip + ARP.senderMac) &&
      this.localAt(4, bytes, ip + ARP.senderIp) !== null &&
      isOneOf(this.#ipv4, bytes, ip + ARP.targetIp)
    );
  }

  /** ARP to the guest: from the gateway. */
  arpToGuest({ bytes, start, ip, size }: Packet): boolean {
    if (!isArp(bytes, ip, size) || !isOneOf(this.#ipv4, bytes, ip + ARP.senderIp)) return false;
    const to = ip + ARP.targetIp;
    if (this.localAt(4, bytes, to) === null && !isOneOf(this.#ipv4, bytes, to)) return false;
    this.#learn(bytes, start + ETH.source);
    return true;
  }

  discoveryFromGuest(packet: Packet): boolean {
    const { bytes, start, transport } = packet;
    if (!isDiscovery(packet) || this.localAt(6, bytes, packet.source) === null) return false;
    const to = start + ETH.destination;
    const target = transport + TARGET;
    if ((bytes[transport] as number) === ICMPV6_TYPE.neighborSolicitation) {
      return (
        (this.isGatewayMac(bytes, to) || isSolicitedMac(bytes, to, target)) && this.#isNear(bytes, target)
      );
    }
    return this.isGatewayMac(bytes, to) && this.localAt(6, bytes, target) !== null;
  }

  discoveryToGuest(packet: Packet): boolean {
    const { bytes, start, transport } = packet;
    if (!isDiscovery(packet)) return false;
    const target = transport + TARGET;
    if ((bytes[transport] as number) === ICMPV6_TYPE.neighborSolicitation) {
      return this.localAt(6, bytes, target) !== null;
    }
    if (!this.#isNear(bytes, target)) return false;
    this.#learn(bytes, start + ETH.source);
    return true;
  }

  /** The gateway's link-local address is not known before: whatever has one here is the gateway. */
  #isNear(bytes: Uint8Array, at: number): boolean {
    return isLinkLocal(bytes, at) || isOneOf(this.#ipv6, bytes, at);
  }

  #learn(bytes: Uint8Array, at: number): void {
    const group = ((bytes[at] as number) & 1) !== 0;
    if (group || this.#macs.length >= MAX_MACS || this.isGatewayMac(bytes, at)) return;
    this.#macs.push(bytes.slice(at, at + 6));
  }
}

function linkLocalOf(mac: readonly number[]): Uint8Array {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac;
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f);
}

function isArp(bytes: Uint8Array, at: number, size: number): boolean {
  if (size < ARP.length) return false;
  const operation = readU16(bytes, at + ARP.operation);
  return (
    readU16(bytes, at + ARP.hardware) === ETHERNET &&
    readU16(bytes, at + ARP.protocol) === ETHER_TYPE.ipv4 &&
    bytes[at + ARP.hardwareLength] === 6 &&
    bytes[at + ARP.protocolLength] === 4 &&
    (operation === ARP_OPERATION.request || operation === ARP_OPERATION.reply)
  );
}

function isDiscovery({ bytes, ip, transport, size }: Packet): boolean {
  const type = bytes[transport] as number;
  return (
    size >= LEAST &&
    bytes[ip + IPV6.hopLimit] === HOPS &&
    bytes[transport + ICMP.code] === 0 &&
    (type === ICMPV6_TYPE.neighborSolicitation || type === ICMPV6_TYPE.neighborAdvertisement)
  );
}

function isLinkLocal(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0xfe && ((bytes[at + 1] as number) & 0xc0) === 0x80;
}

/** 33:33:ff and the target's last three bytes (RFC 2464 7). */
function isSolicitedMac(bytes: Uint8Array, at: number, target: number): boolean {
  return (
    bytes[at] === 0x33 &&
    bytes[at + 1] === 0x33 &&
    bytes[at + 2] === 0xff &&
    bytes[at + 3] === bytes[target + 13] &&
    bytes[at + 4] === bytes[target + 14] &&
    bytes[at + 5] === bytes[target + 15]
  );
}

function isOneOf(addresses: readonly Uint8Array[], bytes: Uint8Array, at: number): boolean {
  for (const address of addresses) if (same(bytes, at, address)) return true;
  return false;
}

/** Of every frame, several times: a MAC, an IPv4 or an IPv6 address, by whole words. */
function same(bytes: Uint8Array, at: number, wanted: Uint8Array): boolean {
  if (readU32(bytes, at) !== readU32(wanted, 0)) return false;
  if (wanted.length === 4) return true;
  if (wanted.length === 6) return readU16(bytes, at + 4) === readU16(wanted, 4);
  return (
    readU32(bytes, at + 12) === readU32(wanted, 12) &&
    readU32(bytes, at + 8) === readU32(wanted, 8) &&
    readU32(bytes, at + 4) === readU32(wanted, 4)
  );
}
