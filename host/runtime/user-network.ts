/**
 * QEMU's own user network (slirp) as a way out for a filter of ours, where passt cannot run. No NIC of the guest is plugged
 * into it: a hub joins it with a socket, through which the filter sends and gets the frames. Pure.
 */

import { YavmError } from '../lib/errors.ts';
import { INET, type PublishedPort } from '../network/types.ts';

export interface UserNetwork {
  /** A connected stream socket, each frame behind its length; taken over. */
  fd: number;
  /** Whether it has IPv6. */
  ipv6: boolean;
  /** Hosts' addresses are IPv4 here. */
  published: readonly PublishedPort[];
}

/**
 * Addresses: those of INET, and a resolver of its own. Its gateway's MAC is 52:55 and the four bytes of its IPv4 address. TCP is
 * ended and begun anew with an MTU of 1500 whatever the NIC's.
 */
export const USER_NETWORK = {
  dns: '10.42.42.3',
  dns6: 'fd42:42:42::3',
  gatewayMac: '52:55:0a:2a:2a:01',
  mtu: 1500,
} as const;

/** `fd` is QEMU's number of it; `hub` one that nobody else uses. @throws {YavmError} YAVM_E_NET_PUBLISH */
export function userNetworkArguments({ fd, ipv6, published }: UserNetwork, hub: number): string[] {
  const network = INET.guest.replace(/\d+$/, '0');
  const prefix6 = INET.guest6.replace(/::.*$/, '::');
  const options = [
    ...['user', 'id=outside', 'restrict=off'],
    ...['ipv4=on', `net=${network}/${INET.prefix}`, `host=${INET.gateway}`, `dns=${USER_NETWORK.dns}`],
    ...(ipv6
      ? [
          ...['ipv6=on', `ipv6-prefix=${prefix6}`, `ipv6-prefixlen=${INET.prefix6}`],
          ...[`ipv6-host=${INET.gateway6}`, `ipv6-dns=${USER_NETWORK.dns6}`],
        ]
      : ['ipv6=off']),
    ...published.map(forward),
  ];
  return [
    ...['-netdev', options.join(',')],
    ...['-netdev', `hubport,id=outside-hub,hubid=${hub},netdev=outside`],
    ...['-netdev', `stream,id=inside,addr.type=fd,addr.str=${fd}`],
    ...['-netdev', `hubport,id=inside-hub,hubid=${hub},netdev=inside`],
  ];
}

function forward({ protocol, hostAddress = '', hostPort, guestPort }: PublishedPort): string {
  // A colon, as in every IPv6 address, separates here.
  if (!/^[\d.]*$/.test(hostAddress)) {
    throw new YavmError(
      'YAVM_E_NET_PUBLISH',
      `${hostAddress}: QEMU's user network publishes ports on IPv4 addresses only`,
      {
        hint: 'Install passt, or publish the port on an IPv4 address.',
      },
    );
  }
  return `hostfwd=${protocol}:${hostAddress}:${hostPort}-${INET.guest}:${guestPort}`;
}
