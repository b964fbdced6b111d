/**
 * Somebody at the other end of a cable who has every IPv4 address: answers ARP, and echo requests. For the self-test, which
 * asks whether frames cross a cable, and for tests. Pure.
 */
import { ETHERNET_HEADER } from '../types.ts';
import { checksum } from './checksum.ts';
import {
  ARP,
  ARP_OPERATION,
  ETH,
  ETHER_TYPE,
  ICMP,
  ICMP_TYPE,
  IP_PROTOCOL,
  IPV4,
  readU16,
  writeU16,
} from './layout.ts';
import { macOf } from './mac.ts';

/** The answer to a frame, a new one; null when it asks nothing. */
export function echoAnswer(frame: Uint8Array): Uint8Array | null {
  if (frame.length < ETHERNET_HEADER) return null;
  switch (readU16(frame, ETH.type)) {
    case ETHER_TYPE.arp:
      return arpAnswer(frame);
    case ETHER_TYPE.ipv4:
      return icmpAnswer(frame);
    default:
      return null;
  }
}

function arpAnswer(frame: Uint8Array): Uint8Array | null {
  const at = ETH.payload;
  if (frame.length < at + ARP.length || readU16(frame, at + ARP.operation) !== ARP_OPERATION.request)
    return null;
  const [sender, target] = [at + ARP.senderIp, at + ARP.targetIp].map((from) =>
    frame.subarray(from, from + 4),
  );
  // One who asks for its own address wants to hear that nobody has it.
  if (!sender || !target || sender.every((byte, index) => byte === target[index])) return null;
  const [mine, theirs] = [macOf('peer', target), frame.subarray(at + ARP.senderMac, at + ARP.senderIp)];
  const answer = new Uint8Array(frame);
  answer.set(theirs, ETH.destination);
  answer.set(mine, ETH.source);
  writeU16(answer, at + ARP.operation, ARP_OPERATION.reply);
  answer.set(mine, at + ARP.senderMac);
  answer.set(target, at + ARP.senderIp);
  answer.set(theirs, at + ARP.targetMac);
  answer.set(sender, at + ARP.targetIp);
  return answer;
}

/** Of requests in one piece; the header's checksum stays right when its addresses change places. */
function icmpAnswer(frame: Uint8Array): Uint8Array | null {
  const ip = ETH.payload;
  if (frame.length < ip + IPV4.header) return null;
  const header = ((frame[ip] as number) & 0xf) * 4;
  const length = readU16(frame, ip + IPV4.totalLength);
  const icmp = ip + header;
  if (header < IPV4.header || length < header + ICMP.header || frame.length < ip + length) return null;
  // "More fragments" and the offset.
  if ((readU16(frame, ip + IPV4.fragment) & 0x3fff) !== 0) return null;
  if (frame[ip + IPV4.protocol] !== IP_PROTOCOL.icmp || frame[icmp + ICMP.type] !== ICMP_TYPE.echo)
    return null;
  const answer = new Uint8Array(frame);
  answer.set(frame.subarray(ETH.source, ETH.type), ETH.destination);
  answer.set(frame.subarray(ETH.destination, ETH.source), ETH.source);
  answer.set(frame.subarray(ip + IPV4.source, ip + IPV4.destination), ip + IPV4.destination);
  answer.set(frame.subarray(ip + IPV4.destination, ip + IPV4.header), ip + IPV4.source);
  answer[icmp + ICMP.type] = ICMP_TYPE.echoReply;
  writeU16(answer, icmp + ICMP.checksum, 0);
  writeU16(answer, icmp + ICMP.checksum, checksum(answer, icmp, length - header));
  return answer;
}
