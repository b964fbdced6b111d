/** Frames for tests of the VPN: addresses as text, everything else with a default. */
import { parseIp } from '../../host/network/frame/address.ts';
import { buildArp } from '../../host/network/frame/arp.ts';
import { buildEcho, buildNeighborAdvertisement } from '../../host/network/frame/icmp.ts';
import { ETH, ETHER_TYPE, IP_PROTOCOL, IPV4, IPV6, UDP, writeU16 } from '../../host/network/frame/layout.ts';
import { BROADCAST_MAC, macOf, parseMac } from '../../host/network/frame/mac.ts';
import { writeEthernet, writeIp, writeTransportChecksum } from '../../host/network/frame/write-ip.ts';

/** `0x…0bb` for `bb`. */
export function nodeId(end: string): string {
  return `0x${end.padStart(40, '0')}`;
}

export const guestMac = (address: string) => macOf('guest', parseIp(address));
export const peerMac = (address: string) => macOf('peer', parseIp(address));

export interface UdpOptions {
  destinationMac?: readonly number[];
  sourceMac?: readonly number[];
  payload?: Uint8Array;
}

/** A UDP datagram, of either family. */
export function udp(from: string, to: string, options: UdpOptions = {}): Uint8Array {
  const [source, destination] = [parseIp(from), parseIp(to)];
  const payload = options.payload ?? Buffer.from('hello');
  const version = source.length === 4 ? 4 : 6;
  const at = ETH.payload + (version === 4 ? IPV4.header : IPV6.header);
  const frame = new Uint8Array(at + UDP.header + payload.length);
  writeEthernet(frame, options.destinationMac ?? peerMac(to), options.sourceMac ?? guestMac(from), version);
  writeIp(frame, ETH.payload, source, destination, IP_PROTOCOL.udp, UDP.header + payload.length);
  writeU16(frame, at + UDP.sourcePort, 4000);
  writeU16(frame, at + UDP.destinationPort, 5000);
  writeU16(frame, at + UDP.length, UDP.header + payload.length);
  frame.set(payload, at + UDP.header);
  const size = UDP.header + payload.length;
  writeTransportChecksum(frame, ETH.payload, at, size, IP_PROTOCOL.udp, UDP.checksum);
  return frame;
}

export function arp(
  operation: 'request' | 'reply',
  from: string,
  to: string,
  sender = guestMac(from),
): Uint8Array {
  const targetMac = operation === 'reply' ? peerMac(to) : undefined;
  const ends = { senderIp: parseIp(from), targetIp: parseIp(to), senderMac: sender };
  return buildArp({ operation, ...ends, ...(targetMac && { targetMac }) });
}

export function echo(
  kind: 'request' | 'reply',
  from: string,
  to: string,
  data = Buffer.alloc(56),
): Uint8Array {
  const ends = { sourceMac: guestMac(from), destinationMac: peerMac(to) };
  const addresses = { source: parseIp(from), destination: parseIp(to) };
  return buildEcho({ ...ends, ...addresses }, { kind, id: 7, sequence: 1, data });
}

export function advertisement(from: string, to: string): Uint8Array {
  const ends = { sourceMac: guestMac(from), destinationMac: peerMac(to) };
  return buildNeighborAdvertisement({ ...ends, source: parseIp(from), destination: parseIp(to) });
}

/** An ICMPv6 message; `options`: behind a hop-by-hop header, as MLD is. */
export function icmpv6(from: string, to: string, type: number, hasOptions = false): Uint8Array {
  const body = hasOptions
    ? [IP_PROTOCOL.icmpv6, 0, 5, 2, 0, 0, 1, 0, type, 0, 0, 0, 0, 0, 0, 0]
    : [type, 0, 0, 0, 0, 0, 0, 0];
  const frame = new Uint8Array(ETH.payload + IPV6.header + body.length);
  writeEthernet(frame, parseMac('33:33:00:00:00:16'), parseMac('90:13:00:00:00:01'), 6);
  const next = hasOptions ? IP_PROTOCOL.hopByHop : IP_PROTOCOL.icmpv6;
  writeIp(frame, ETH.payload, parseIp(from), parseIp(to), next, body.length);
  frame.set(body, ETH.payload + IPV6.header);
  return frame;
}

/** Behind a VLAN tag. */
export function tagged(frame: Uint8Array): Uint8Array {
  const tag = Uint8Array.of(ETHER_TYPE.vlan >> 8, ETHER_TYPE.vlan & 0xff, 0, 5);
  return Buffer.concat([frame.subarray(0, ETH.type), tag, frame.subarray(ETH.type)]);
}

/** A copy with bytes changed: offset → value. */
export function changed(frame: Uint8Array, bytes: Record<number, number>): Uint8Array {
  const copy = Uint8Array.from(frame);
  for (const [at, value] of Object.entries(bytes)) copy[Number(at)] = value;
  return copy;
}

export { BROADCAST_MAC };
