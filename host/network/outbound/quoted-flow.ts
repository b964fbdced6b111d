/** ICMP errors: which flow is the packet of that they quote. */
import { ICMP, ICMP_TYPE, ICMPV6_TYPE, IP_PROTOCOL, IPV4, IPV6, readU16, UDP } from '../frame/layout.ts';
import type { FilterState } from './filter-state.ts';
import type { Flow, Local } from './flows.ts';
import type { Packet } from './packet.ts';

/** Unreachable, time exceeded, parameter problem; with IPv6 too big a packet as well. */
const ERRORS = { 4: [ICMP_TYPE.unreachable, 11, 12], 6: [ICMPV6_TYPE.unreachable, 2, 3, 4] } as const;
/** Of the quoted transport: ports, or an echo's id. Bytes. */
const LEAST = 8;

/** Null: no error, or about no flow of the guest. */
export function quotedFlow(packet: Packet, state: FilterState, local: Local): Flow | null {
  const { neighbours, tcp, exchanges, now } = state;
  const { bytes, transport, size } = packet;
  const ipv4 = packet.version === 4;
  const errors: readonly number[] = ERRORS[ipv4 ? 4 : 6];
  if (!errors.includes(bytes[transport + ICMP.type] as number)) return null;
  const ip = transport + ICMP.header;
  const header = ipv4 ? IPV4.header : IPV6.header;
  if (size < ICMP.header + header + LEAST) return null;
  const first = bytes[ip] as number;
  if (ipv4 ? first !== 0x45 : first >> 4 !== 6) return null;
  const source = ip + (ipv4 ? IPV4.source : IPV6.source);
  const destination = ip + (ipv4 ? IPV4.destination : IPV6.destination);
  // The guest's own packet, of the address that is told.
  if (neighbours.localAt(packet.version, bytes, source) !== local) return null;
  const protocol = bytes[ip + (ipv4 ? IPV4.protocol : IPV6.nextHeader)] as number;
  const inner = ip + header;
  if (protocol === IP_PROTOCOL.tcp || protocol === IP_PROTOCOL.udp) {
    const table = protocol === IP_PROTOCOL.tcp ? tcp : exchanges;
    const guestPort = readU16(bytes, inner + UDP.sourcePort);
    const remotePort = readU16(bytes, inner + UDP.destinationPort);
    return table.find(protocol, local, guestPort, remotePort, bytes, destination, now);
  }
  const id = readU16(bytes, inner + ICMP.id);
  return exchanges.find(protocol, local, id, 0, bytes, destination, now);
}
