/** ARP for IPv4 over Ethernet (RFC 826), as whole frames. */
import { ARP, ARP_OPERATION, ETH, ETHER_TYPE, writeU16 } from './layout.ts';
import { BROADCAST_MAC } from './mac.ts';

export interface ArpMessage {
  operation: keyof typeof ARP_OPERATION;
  senderMac: readonly number[];
  senderIp: Uint8Array;
  /** Of a request: not known, zeros. */
  targetMac?: readonly number[];
  targetIp: Uint8Array;
}

/** To everybody when the target's MAC is not known. */
export function buildArp(message: ArpMessage): Uint8Array {
  const frame = new Uint8Array(ETH.payload + ARP.length);
  const at = ETH.payload;
  frame.set(message.targetMac ?? BROADCAST_MAC, ETH.destination);
  frame.set(message.senderMac, ETH.source);
  writeU16(frame, ETH.type, ETHER_TYPE.arp);
  writeU16(frame, at + ARP.hardware, 1);
  writeU16(frame, at + ARP.protocol, ETHER_TYPE.ipv4);
  frame[at + ARP.hardwareLength] = 6;
  frame[at + ARP.protocolLength] = 4;
  writeU16(frame, at + ARP.operation, ARP_OPERATION[message.operation]);
  frame.set(message.senderMac, at + ARP.senderMac);
  frame.set(message.senderIp, at + ARP.senderIp);
  if (message.targetMac) frame.set(message.targetMac, at + ARP.targetMac);
  frame.set(message.targetIp, at + ARP.targetIp);
  return frame;
}
