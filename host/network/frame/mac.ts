/** MAC addresses by the rules of Golem's VPN (runtime-vm.md 7.3). */
import { YavmError } from '../../lib/errors.ts';

/** First two bytes of the MAC of a VM's NIC, and of the other side's. The four of an IPv4 address follow. */
export const MAC_PREFIX = { guest: [0x90, 0x13], peer: [0xa0, 0x13] } as const;

export const BROADCAST_MAC: readonly number[] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/** `90:13:` + an address's last four bytes (all of an IPv4 one): six bytes. */
export function macOf(side: keyof typeof MAC_PREFIX, address: Uint8Array | readonly number[]): number[] {
  return [...MAC_PREFIX[side], ...Array.from(address).slice(-4)];
}

/** `90:13:0a:2a:2a:02` */
export function formatMac(mac: Uint8Array | readonly number[]): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** @throws {YavmError} YAVM_E_NET_ADDRESS */
export function parseMac(text: string): number[] {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new YavmError('YAVM_E_NET_ADDRESS', `'${text}' is no MAC address`);
  }
  return text.split(':').map((pair) => Number.parseInt(pair, 16));
}
