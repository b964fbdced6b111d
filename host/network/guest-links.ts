/** A VM's NICs as its guest is told about them (guest/protocol NetworkSpec): eth0 is the VPN, eth1 the way out. Pure. */
import type { LinkSpec } from '../../guest/protocol/messages.ts';
import { parseIp } from './frame/address.ts';
import { formatMac, macOf } from './frame/mac.ts';
import { INET, MTU, type VpnNetwork } from './types.ts';

/** What of a network the guest must know. */
export type GuestNetwork = Pick<VpnNetwork, 'nodeIp' | 'prefix'>;

/**
 * The VPN's NIC, with an address in each network. Its MAC is made of the first IPv4 one (runtime-vm.md 7.3); peers ask by
 * ARP for the others. A gateway is not used, as upstream: its route never differs from the network's own.
 */
export function vpnLink(networks: readonly GuestNetwork[]): LinkSpec {
  const addresses = networks.map(({ nodeIp }) => parseIp(nodeIp));
  const first = addresses.find(({ length }) => length === 4) ?? addresses[0] ?? [0, 0, 0, 0];
  return {
    mac: formatMac(macOf('guest', first)),
    name: 'eth0',
    mtu: addresses.some(({ length }) => length === 16) ? MTU.vpnIpv6 : MTU.vpn,
    addresses: networks.map(({ nodeIp, prefix }) => `${nodeIp}/${prefix}`),
  };
}

/** The NIC to the internet, through our filter. */
export function outboundLink({ mtu = MTU.outbound, ipv6 }: { mtu?: number; ipv6: boolean }): LinkSpec {
  return {
    mac: INET.guestMac,
    name: 'eth1',
    mtu,
    addresses: [`${INET.guest}/${INET.prefix}`, ...(ipv6 ? [`${INET.guest6}/${INET.prefix6}`] : [])],
    routes: [{ to: 'default', via: INET.gateway }, ...(ipv6 ? [{ to: '::/0', via: INET.gateway6 }] : [])],
  };
}
