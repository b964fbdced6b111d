/** Where this host asks for names, and what the guest is told of it. */
import { readFileSync } from 'node:fs';
import { isIP, isIPv4 } from 'node:net';
import { INET } from '../types.ts';

export interface Resolvers {
  /** As /etc/resolv.conf has them, which is what passt reads. */
  configured: readonly string[];
  /** Those that a local resolver asks in its turn, where that is known (systemd-resolved). */
  behind: readonly string[];
}

const RESOLV_CONF = '/etc/resolv.conf';
/** systemd-resolved keeps the servers of the networks here; /etc/resolv.conf has 127.0.0.53. */
const SYSTEMD = '/run/systemd/resolve/resolv.conf';
/** Bytes of such a file that are read. */
const MOST = 64 * 1024;

export function readResolvers(
  read: (path: string) => string = (path) => readFileSync(path, 'utf8'),
): Resolvers {
  const servers = (path: string) => {
    try {
      return parseResolvers(read(path).slice(0, MOST));
    } catch {
      return [];
    }
  };
  return { configured: servers(RESOLV_CONF), behind: servers(SYSTEMD) };
}

/** Addresses of `nameserver` lines. Those with a zone are left out: passt cannot use them. */
export function parseResolvers(text: string): string[] {
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)]
    .map(([, address]) => address as string)
    .filter((address) => !address.includes('%') && isIP(address) !== 0);
}

export interface GuestDns {
  /** Address that the guest asks; null: the host has no resolver of this family. */
  ipv4: string | null;
  ipv6: string | null;
  /** False: questions by TCP go nowhere, because the host's resolver is on its loopback alone. */
  tcp: boolean;
}

/**
 * What the guest asks. `forwardsTcp`: passt takes questions by TCP to the resolver, too; then it is the gateway. An older
 * passt forwards only UDP, so the guest is told the address of the host's resolver itself: what goes there by TCP needs no
 * forwarding, unless the resolver is on the host's loopback; then it is one that is asked by that one.
 */
export function guestDns({ configured, behind }: Resolvers, forwardsTcp: boolean): GuestDns {
  const choose = (ours: (address: string) => boolean, gateway: string) => {
    const first = configured.find(ours);
    if (first === undefined) return null;
    if (forwardsTcp) return gateway;
    return [first, ...behind].find((address) => ours(address) && !isLoopback(address)) ?? gateway;
  };
  const ipv4 = choose(isIPv4, INET.gateway);
  const ipv6 = choose((address) => !isIPv4(address), INET.gateway6);
  const byTcp = (ipv4 !== null && ipv4 !== INET.gateway) || (ipv6 !== null && ipv6 !== INET.gateway6);
  return { ipv4, ipv6, tcp: forwardsTcp || byTcp };
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || /^(0*:)+0*1$/.test(address);
}
