/** A frame's headers as the filter sees them: offsets into the frame, checked. One object serves all frames of a direction. */
import {
  ETH,
  ETHER_TYPE,
  ICMP,
  ICMPV6_TYPE,
  IP_PROTOCOL,
  IPV4,
  IPV6,
  readU16,
  TCP,
  TCP_FLAG,
  UDP,
} from '../frame/layout.ts';
import { DROP } from './drops.ts';

/** IEEE 802.1Q, 802.1ad, and what came before it. */
const VLAN_TYPES: readonly number[] = [ETHER_TYPE.vlan, 0x88a8, 0x9100, 0x9200, 0x9300];
/** Ethernet pads shorter frames with bytes that belong to no packet. */
const LEAST_FRAME = 60;
/** Version 4, and a header without options. */
const PLAIN_IPV4 = 0x45;
/** More fragments, an offset, or the bit that must be zero. */
const FRAGMENT = 0xbfff;
/** IPv6 headers that are no transport (IANA), and that the filter does not look behind. */
const EXTENSIONS: readonly number[] = [
  ...[IP_PROTOCOL.hopByHop, IP_PROTOCOL.routing, IP_PROTOCOL.fragment, IP_PROTOCOL.destinationOptions],
  // Security, mobility, host identity, shim6, experiments.
  ...[50, 51, 135, 139, 140, 253, 254],
];

export class Packet {
  bytes: Uint8Array = new Uint8Array(0);
  /** The same; made anew only when it is another buffer. */
  view: DataView = new DataView(new ArrayBuffer(0));
  /** Of the frame. */
  start = 0;
  /** 4 or 6; 0: ARP. */
  version: 0 | 4 | 6 = 0;
  /** Of the IP header, or of ARP. */
  ip = 0;
  protocol = 0;
  /** Of the addresses. */
  source = 0;
  destination = 0;
  /** Of TCP's, UDP's or ICMP's header. */
  transport = 0;
  /** Bytes of that header and what follows. */
  size = 0;
  /** TCP's flags, and its bytes of data. */
  flags = 0;
  data = 0;

  /** Takes a frame; returns 0, or why it can be none that is let through (a value of {@link DROP}). */
  read(bytes: Uint8Array, start: number, length: number): number {
    if (bytes !== this.bytes) {
      this.bytes = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.start = start;
    if (length < ETH.payload) return DROP.short;
    const type = readU16(bytes, start + ETH.type);
    const ip = start + ETH.payload;
    this.ip = ip;
    const room = length - ETH.payload;
    if (type === ETHER_TYPE.ipv4) return this.#ipv4(bytes, ip, room);
    if (type === ETHER_TYPE.ipv6) return this.#ipv6(bytes, ip, room);
    if (type === ETHER_TYPE.arp) {
      this.version = 0;
      this.size = room;
      return 0;
    }
    return VLAN_TYPES.includes(type) ? DROP.vlan : DROP['not-ip'];
  }

  /** Neighbour discovery and router's advertisements (RFC 4861). */
  get isNeighbourDiscovery(): boolean {
    if (this.version !== 6 || this.protocol !== IP_PROTOCOL.icmpv6) return false;
    const type = this.bytes[this.transport + ICMP.type] as number;
    return type >= ICMPV6_TYPE.routerSolicitation && type <= ICMPV6_TYPE.redirect;
  }

  /** A copy of the 4 or 16 bytes at `at`: of the source or the destination. */
  addressAt(at: number): Uint8Array {
    return this.bytes.slice(at, at + (this.version === 4 ? 4 : 16));
  }

  #ipv4(bytes: Uint8Array, ip: number, room: number): number {
    this.version = 4;
    if (room < IPV4.header) return DROP.short;
    const first = bytes[ip] as number;
    if (first !== PLAIN_IPV4) return first > PLAIN_IPV4 && first < 0x50 ? DROP.options : DROP.malformed;
    const total = readU16(bytes, ip + IPV4.totalLength);
    if (total < IPV4.header || !fits(total, room)) return DROP.malformed;
    if (readU16(bytes, ip + IPV4.fragment) & FRAGMENT) return DROP.fragment;
    this.source = ip + IPV4.source;
    this.destination = ip + IPV4.destination;
    return this.#transport(bytes, bytes[ip + IPV4.protocol] as number, ip + IPV4.header, total - IPV4.header);
  }

  #ipv6(bytes: Uint8Array, ip: number, room: number): number {
    this.version = 6;
    if (room < IPV6.header) return DROP.short;
    if ((bytes[ip] as number) >> 4 !== 6) return DROP.malformed;
    const next = bytes[ip + IPV6.nextHeader] as number;
    const usual = next === IP_PROTOCOL.tcp || next === IP_PROTOCOL.udp || next === IP_PROTOCOL.icmpv6;
    if (!usual && EXTENSIONS.includes(next))
      return next === IP_PROTOCOL.fragment ? DROP.fragment : DROP.options;
    const payload = readU16(bytes, ip + IPV6.payloadLength);
    if (!fits(IPV6.header + payload, room)) return DROP.malformed;
    this.source = ip + IPV6.source;
    this.destination = ip + IPV6.destination;
    return this.#transport(bytes, next, ip + IPV6.header, payload);
  }

  #transport(bytes: Uint8Array, protocol: number, at: number, size: number): number {
    this.protocol = protocol;
    this.transport = at;
    this.size = size;
    if (protocol === IP_PROTOCOL.tcp) {
      if (size < TCP.header) return DROP.short;
      const header = ((bytes[at + TCP.offset] as number) >> 4) * 4;
      if (header < TCP.header || header > size) return DROP.malformed;
      this.data = size - header;
      const flags = bytes[at + TCP.flags] as number;
      this.flags = flags;
      return plausible(flags) ? 0 : DROP['tcp-flags'];
    }
    if (protocol === IP_PROTOCOL.udp) {
      if (size < UDP.header) return DROP.short;
      return readU16(bytes, at + UDP.length) === size ? 0 : DROP.malformed;
    }
    const icmp = this.version === 4 ? IP_PROTOCOL.icmp : IP_PROTOCOL.icmpv6;
    return protocol === icmp && size < ICMP.header ? DROP.short : 0;
  }
}

/** Whether a packet of `length` bytes is what came: all of it, and nothing behind it but Ethernet's padding. */
function fits(length: number, room: number): boolean {
  return length === room || (length < room && room <= LEAST_FRAME - ETH.payload);
}

/** Not more than one of beginning, end and reset, and an acknowledgement with all but a first segment and a reset. */
function plausible(flags: number): boolean {
  const kind = flags & (TCP_FLAG.syn | TCP_FLAG.fin | TCP_FLAG.rst);
  if (flags & TCP_FLAG.ack) return (kind & (kind - 1)) === 0;
  return kind === TCP_FLAG.syn || kind === TCP_FLAG.rst;
}
