/** Which networks a VM gets: from the agreement, its manifest and the deploy command, or from `ya-vm run`. Pure. */
import { YavmError } from '../lib/errors.ts';
import { parseUrlRules } from '../network/outbound/parse-urls.ts';
import type { LinkKind, OutboundPolicy, PublishedPort, VpnNetwork } from '../network/types.ts';
import { parseNetworks } from '../network/vpn/networks.ts';
import type { LocalNetworkOptions } from './local-network.ts';
import { LINK_KINDS } from './local-network.ts';
import type { Manifest } from './manifest.ts';
import type { DeployNetwork } from './types.ts';

export interface InternetPlan {
  policy: OutboundPolicy;
  publish: readonly PublishedPort[];
  /** Of the guest's NIC; default MTU.outbound. */
  mtu?: number;
}

export interface NetworkPlan {
  /** None: no VPN, and no NIC for one. */
  vpn: VpnNetwork[];
  internet: InternetPlan | null;
  /** How frames travel between QEMU and the relay of the VPN. */
  link: LinkKind;
  /** Capture of all frames from the start on. */
  pcap?: string;
}

export const NO_NETWORK: NetworkPlan = { vpn: [], internet: null, link: 'udp' };

/** Environment variable that chooses {@link NetworkPlan.link} on a provider. */
export const LINK_VARIABLE = 'YA_VM_VPN_LINK';

/** Capability of an offer that lets a deploy bring networks (exe-unit.md 8.1). */
const VPN = 'vpn';

export interface NetworkTerms {
  /** Of the offer. */
  capabilities: readonly string[];
  /** What the manifest lets out; null: nothing. */
  outbound: OutboundPolicy | null;
  env: Readonly<Record<string, string | undefined>>;
}

/** @throws {YavmError} YAVM_E_NET_…: addresses that cannot be; YAVM_E_UNSUPPORTED: networks that were not offered */
export function planNetwork(networks: readonly DeployNetwork[], terms: NetworkTerms): NetworkPlan {
  if (networks.length > 0 && !terms.capabilities.includes(VPN)) {
    throw new YavmError('YAVM_E_UNSUPPORTED', 'this provider offers no VPN: deploy without "net"');
  }
  return {
    vpn: parseNetworks(networks),
    internet: terms.outbound && { policy: terms.outbound, publish: [] },
    link: parseLink(terms.env[LINK_VARIABLE]),
  };
}

/** The networks of a VM of `ya-vm run`. @throws {YavmError} YAVM_E_NET_…, YAVM_E_USAGE */
export function localNetwork(options: LocalNetworkOptions | null): NetworkPlan {
  if (options === null) return NO_NETWORK;
  const { internet, vpn, pcap, link = NO_NETWORK.link } = options;
  return { vpn: parseNetworks(vpn), internet, link, ...(pcap !== undefined && { pcap }) };
}

/** Whether the VM has a NIC. */
export function needsNetwork({ vpn, internet }: NetworkPlan): boolean {
  return vpn.length > 0 || internet !== null;
}

/**
 * What a manifest lets its task reach: null without `net.inet`; everything, as upstream, where that has no `out`
 * (exe-unit.md 8.7).
 * @throws {YavmError} YAVM_E_NET_RULE: a URL without a port that is known
 */
export function outboundPolicy(manifest: Manifest | null): OutboundPolicy | null {
  const inet = manifest?.inet;
  if (inet === undefined) return null;
  const { outbound } = inet;
  if (outbound === undefined || outbound.unrestricted) return { unrestricted: true, rules: [] };
  return { unrestricted: false, rules: parseUrlRules(outbound.urls) };
}

/** @throws {YavmError} YAVM_E_USAGE */
export function parseLink(text: string | undefined): LinkKind {
  if (text === undefined || text === '') return NO_NETWORK.link;
  const link = LINK_KINDS.find((kind) => kind === text);
  if (link !== undefined) return link;
  throw new YavmError('YAVM_E_USAGE', `${LINK_VARIABLE}=${text}: not one of ${LINK_KINDS.join(', ')}`);
}
