/** Ethernet frames with just enough in them to be switched. */
import { parseIp } from '../../host/network/frame/address.ts';
import {
  ARP,
  ARP_OPERATION,
  ETH,
  ETHER_TYPE,
  IP_PROTOCOL,
  IPV4,
  IPV6,
  writeU16,
} from '../../host/network/frame/layout.ts';
import { BROADCAST_MAC, macOf } from '../../host/network/frame/mac.ts';

/** Bytes of the smallest frame that Ethernet has, without its check sum. */
const SMALLEST = 60;

function frameOf(type: number, source: string, destination: string | null, size: number): Uint8Array {
  const frame = new Uint8Array(Math.max(size, SMALLEST));
  frame.set(destination === null ? BROADCAST_MAC : macOf('guest', parseIp(destination)), ETH.destination);
  frame.set(macOf('guest', parseIp(source)), ETH.source);
  writeU16(frame, ETH.type, type);
  return frame;
}

/** UDP in IPv4, of `size` bytes with Ethernet's header; each byte of the payload is `fill`. */
export function ipv4Frame(
  source: string,
  destination: string,
  size: number = SMALLEST,
  fill = 0,
): Uint8Array {
  const frame = frameOf(ETHER_TYPE.ipv4, source, destination, size);
  const at = ETH.payload;
  frame.fill(fill, at + IPV4.header);
  frame[at] = 0x45;
  writeU16(frame, at + IPV4.totalLength, frame.length - ETH.payload);
  frame[at + IPV4.ttl] = 64;
  frame[at + IPV4.protocol] = IP_PROTOCOL.udp;
  frame.set(parseIp(source), at + IPV4.source);
  frame.set(parseIp(destination), at + IPV4.destination);
  return frame;
}

export function ipv6Frame(source: string, destination: string, next: number = IP_PROTOCOL.udp): Uint8Array {
  const frame = frameOf(ETHER_TYPE.ipv6, source, destination, 80);
  const at = ETH.payload;
  frame[at] = 0x60;
  writeU16(frame, at + IPV6.payloadLength, frame.length - at - IPV6.header);
  frame[at + IPV6.nextHeader] = next;
  frame[at + IPV6.hopLimit] = 255;
  frame.set(parseIp(source), at + IPV6.source);
  frame.set(parseIp(destination), at + IPV6.destination);
  return frame;
}

/** A request by broadcast. */
export function arpFrame(sender: string, target: string): Uint8Array {
  const frame = frameOf(ETHER_TYPE.arp, sender, null, SMALLEST);
  const at = ETH.payload;
  writeU16(frame, at + ARP.hardware, 1);
  writeU16(frame, at + ARP.protocol, ETHER_TYPE.ipv4);
  frame[at + ARP.hardwareLength] = 6;
  frame[at + ARP.protocolLength] = 4;
  writeU16(frame, at + ARP.operation, ARP_OPERATION.request);
  frame.set(macOf('guest', parseIp(sender)), at + ARP.senderMac);
  frame.set(parseIp(sender), at + ARP.senderIp);
  frame.set(parseIp(target), at + ARP.targetIp);
  return frame;
}
