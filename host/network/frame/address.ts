/** IP addresses as bytes and as text. Node's own parser decides what is one. */
import { isIP, SocketAddress } from 'node:net';
import { YavmError } from '../../lib/errors.ts';

/** 4 or 16 bytes. @throws {YavmError} YAVM_E_NET_ADDRESS: no address in text, or one with a zone */
export function parseIp(text: string): Uint8Array {
  const family = text.includes('%') ? 0 : isIP(text);
  if (family === 4) return Uint8Array.from(text.split('.'), Number);
  if (family === 6) return parseIpv6(text);
  throw new YavmError('YAVM_E_NET_ADDRESS', `'${text.slice(0, 100)}' is no IP address`);
}

/** Dotted, or shortened and in lower case (RFC 5952). `bytes` has 4 or 16. */
export function formatIp(bytes: Uint8Array | readonly number[]): string {
  if (bytes.length === 4) return Array.from(bytes).join('.');
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) {
    groups.push((((bytes[at] as number) << 8) | (bytes[at + 1] as number)).toString(16));
  }
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}

/** The one spelling of an address. @throws {YavmError} YAVM_E_NET_ADDRESS */
export function canonicalIp(text: string): string {
  return formatIp(parseIp(text));
}

/** The bytes of an IPv4 address from its number. */
export function ipv4Bytes(number: number): Uint8Array {
  return Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
}

/** Whether the first `prefix` bits are the same. Addresses of different families are in no common range. */
export function inRange(address: Uint8Array, network: Uint8Array, prefix: number): boolean {
  if (address.length !== network.length) return false;
  const whole = prefix >> 3;
  for (let at = 0; at < whole; at++) if (address[at] !== network[at]) return false;
  const rest = prefix & 7;
  if (rest === 0) return true;
  const mask = (0xff00 >> rest) & 0xff;
  return ((address[whole] as number) & mask) === ((network[whole] as number) & mask);
}

/** The address with all bits behind the prefix set (`broadcast`) or cleared. */
export function rangeEnd(address: Uint8Array, prefix: number, end: 'first' | 'last'): Uint8Array {
  return Uint8Array.from(address, (byte, at) => {
    const bits = Math.max(0, Math.min(8, prefix - 8 * at));
    const mask = (0xff00 >> bits) & 0xff;
    return end === 'first' ? byte & mask : byte | (~mask & 0xff);
  });
}

function parseIpv6(text: string): Uint8Array {
  // Behind an IPv4 tail the parser keeps the dots: they are two groups.
  const tail = /(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const plain = tail
    ? text.slice(0, tail.index) +
      [0, 2].map((at) => (Number(tail[at + 1]) * 256 + Number(tail[at + 2])).toString(16)).join(':')
    : text;
  const [head = '', rest] = plain.split('::');
  const groups = (part: string) =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const before = groups(head);
  const after = rest === undefined ? [] : groups(rest);
  const all = [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
