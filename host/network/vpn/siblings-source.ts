/** Whether a frame from a sibling has a source that is the sibling's own. */
import { ARP, ETH, ETHER_TYPE, IP_PROTOCOL, IPV4, IPV6, readU16 } from '../frame/layout.ts';
import { type AddressKey, ipv4Key, ipv6Key } from './address-key.ts';

/**
 * The relay that sent it has looked closer; this is what the owner promises to the others. Besides own addresses: none yet
 * (an ARP probe, and `::` while an IPv6 address is tried), and link-local IPv6 for what finds neighbours and joins groups.
 */
export function hasOwnSource(
  own: ReadonlySet<AddressKey>,
  bytes: Uint8Array,
  offset: number,
  length: number,
): boolean {
  const type = readU16(bytes, offset + ETH.type);
  const at = offset + ETH.payload;
  const size = length - ETH.payload;
  if (type === ETHER_TYPE.ipv4) return size >= IPV4.header && own.has(ipv4Key(bytes, at + IPV4.source));
  if (type === ETHER_TYPE.arp) {
    if (size < ARP.length || readU16(bytes, at + ARP.protocol) !== ETHER_TYPE.ipv4) return false;
    const sender = ipv4Key(bytes, at + ARP.senderIp);
    return sender === 0 || own.has(sender);
  }
  if (type !== ETHER_TYPE.ipv6 || size < IPV6.header) return false;
  if (isLinkLocal(bytes, at + IPV6.source) || isUnspecified(bytes, at + IPV6.source)) {
    const next = bytes[at + IPV6.nextHeader];
    // Reports of groups (MLD) are behind a hop-by-hop header: their router alert.
    return next === IP_PROTOCOL.icmpv6 || next === IP_PROTOCOL.hopByHop;
  }
  return own.has(ipv6Key(bytes, at + IPV6.source));
}

/** fe80::/10 */
function isLinkLocal(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0xfe && ((bytes[at + 1] as number) & 0xc0) === 0x80;
}

function isUnspecified(bytes: Uint8Array, at: number): boolean {
  for (let index = 0; index < 16; index++) if (bytes[at + index] !== 0) return false;
  return true;
}
