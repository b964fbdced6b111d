/** Addresses as keys of maps, read from a frame without making an object for IPv4. */
import { readU32 } from '../frame/layout.ts';

/** An IPv4 address as an unsigned number; an IPv6 one as its sixteen bytes in a latin1 string. */
export type AddressKey = number | string;

export function ipv4Key(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at);
}

export function ipv6Key(bytes: Uint8Array, at: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, 16).toString('latin1');
}

/** Of an address's 4 or 16 bytes. */
export function keyOfAddress(address: Uint8Array): AddressKey {
  return address.length === 4 ? ipv4Key(address, 0) : ipv6Key(address, 0);
}
