/**
 * What `network` requests have made of a VM's two NICs, and what its guest is told. Requests add up: the supervisor may send
 * another at any time, and one that repeats what is there succeeds. Spec: runtime-vm.md 6.8, 7.3, 7.4.
 */
import type { LinkSpec, NetworkSpec } from '../../guest/protocol/messages.ts';
import { YavmError } from '../lib/errors.ts';
import { formatIp, parseIp } from '../network/frame/address.ts';
import { formatMac, macOf } from '../network/frame/mac.ts';
import { type GuestNetwork, vpnLink } from '../network/guest-links.ts';
import { ETHERNET_HEADER, MTU, type NicBackend } from '../network/types.ts';
import { parseNodeAddress } from '../network/vpn/networks.ts';
import type { Endpoints } from './endpoint.ts';
import type { ApiNetwork, ApiRequestOf, NetworkInterface } from './messages.ts';

/** MACs with which the NICs start, as upstream's; the guest gets one made of its address when that is known. */
export const FIRST_MAC: Readonly<Record<NetworkInterface, string>> = {
  vpn: '90:13:00:00:00:01',
  inet: '90:13:00:00:00:02',
};
/** What upstream's guest asks; the supervisor answers for them whether it can reach them or not (exe-unit.md 8.6). */
const RESOLVERS = ['1.1.1.1', '8.8.8.8'];
/** Largest payload of a UDP datagram over IPv4, bytes: 65,535 less 20 of IP and 8 of UDP. */
const MAX_DATAGRAM = 65_507;
/** What the guest takes (guest/protocol/validate.ts): addresses of a link, and names. */
const MAX_NETWORKS = 64;
const MAX_HOSTS = 4096;

/** One network as the guest has it; only INET's gateway is used. */
type Attached = GuestNetwork & { gateway: string | null };

export interface NetworkState {
  /** The NICs that there are. */
  backends: Endpoints<NicBackend['kind']>;
  networks: Readonly<Record<NetworkInterface, readonly Attached[]>>;
  /** Address by name. */
  hosts: Readonly<Record<string, string>>;
}

export function noNetworks(backends: NetworkState['backends']): NetworkState {
  return { backends, networks: { vpn: [], inet: [] }, hosts: {} };
}

/** For the start of the VM: links in their order, with names and MTUs, and without addresses. */
export function bareLinks(state: NetworkState): LinkSpec[] {
  const names = ['vpn', 'inet'] as const;
  return names.filter((name) => state.backends[name]).map((name) => linkOf(state, name));
}

/**
 * The state after a request, and what the guest is to be told then.
 * @throws {YavmError} YAVM_E_RUNTIME_REQUEST, YAVM_E_NET_ADDRESS: what makes no sense
 */
export function planNetwork(
  state: NetworkState,
  { interface: name, networks, hosts }: Pick<ApiRequestOf<'network'>, 'interface' | 'networks' | 'hosts'>,
): { state: NetworkState; spec: NetworkSpec } {
  if (!state.backends[name]) {
    throw badRequest(`there is no ${name.toUpperCase()} network: the start had no --${name}-endpoint`);
  }
  const attached = joined(state.networks[name], networks.map(parseNetwork));
  if (attached.length > MAX_NETWORKS) {
    throw badRequest(`${attached.length} networks on one link, at most ${MAX_NETWORKS}`);
  }
  const allHosts = { ...state.hosts, ...hosts };
  const names = Object.keys(allHosts).length;
  if (names > MAX_HOSTS) throw badRequest(`${names} host names, at most ${MAX_HOSTS}`);
  const next: NetworkState = {
    ...state,
    networks: { ...state.networks, [name]: attached },
    hosts: allHosts,
  };
  const spec: NetworkSpec = { links: [linkOf(next, name)], hosts: allHosts };
  if (name === 'inet') spec.nameservers = RESOLVERS;
  return { state: next, spec };
}

/**
 * With its NIC's first MAC, and the one to set once there is an address. That of the first IPv4 one stays when others are
 * added: peers that made their entry from it would miss another, and changing it takes the link down.
 */
function linkOf({ backends, networks }: NetworkState, name: NetworkInterface): LinkSpec {
  const attached = networks[name];
  const link = name === 'vpn' ? vpnLink(attached) : inetLink(attached, backends.inet);
  const addresses = attached.map(({ nodeIp }) => parseIp(nodeIp));
  const first = addresses.find(({ length }) => length === 4) ?? addresses[0];
  return { ...link, mac: FIRST_MAC[name], ...(first && { setMac: formatMac(macOf('guest', first)) }) };
}

function inetLink(networks: readonly Attached[], backend: NicBackend['kind'] | undefined): LinkSpec {
  const gateway = networks.find((network) => network.gateway !== null)?.gateway;
  return {
    mac: FIRST_MAC.inet,
    name: 'eth1',
    mtu: inetMtu(backend),
    addresses: networks.map(({ nodeIp, prefix }) => `${nodeIp}/${prefix}`),
    ...(gateway && { routes: [{ to: 'default', via: gateway }] }),
  };
}

/**
 * Upstream's 65521 makes frames of 65,535 bytes, more than a datagram holds: the largest would never arrive. TCP carries
 * them.
 */
export function inetMtu(backend: NicBackend['kind'] | undefined): number {
  return backend === 'datagram' ? Math.min(MTU.stockInet, MAX_DATAGRAM - ETHERNET_HEADER) : MTU.stockInet;
}

// ---------------------------------------------------------------- texts

function parseNetwork({ address, gateway, mask, interfaceAddress }: ApiNetwork): Attached {
  const range = parse(address, 'addr');
  const nodeIp = parseNodeAddress(interfaceAddress, 'if_addr');
  const family = parseIp(nodeIp).length;
  const way = gateway === '' ? null : parse(gateway, 'gateway');
  for (const [field, bytes] of [['addr', range] as const, ['gateway', way] as const]) {
    if (bytes && bytes.length !== family) {
      throw badRequest(`${field} ${formatIp(bytes)} and if_addr ${nodeIp} are of two families`);
    }
  }
  return { nodeIp, prefix: prefixOf(mask, family), gateway: way && formatIp(way) };
}

function parse(text: string, field: string): Uint8Array {
  try {
    return parseIp(text);
  } catch {
    throw badRequest(`${field}: '${text.slice(0, 100)}' is no IP address`);
  }
}

/** Of a mask in an address's form: ones, then zeros. */
function prefixOf(mask: string, family: number): number {
  const bytes = parse(mask, 'mask');
  const bits = Array.from(bytes, (byte) => byte.toString(2).padStart(8, '0')).join('');
  if (bytes.length !== family || !/^1*0*$/.test(bits)) throw badRequest(`mask: '${mask}' is no netmask`);
  return bits.replaceAll('0', '').length;
}

/** Both, each address and prefix once: a repeated request is no error. */
function joined(before: readonly Attached[], more: readonly Attached[]): Attached[] {
  const all = new Map(before.map((network) => [`${network.nodeIp}/${network.prefix}`, network]));
  for (const network of more) {
    const key = `${network.nodeIp}/${network.prefix}`;
    if (!all.has(key)) all.set(key, network);
  }
  return [...all.values()];
}

function badRequest(message: string): YavmError {
  return new YavmError('YAVM_E_RUNTIME_REQUEST', message);
}
