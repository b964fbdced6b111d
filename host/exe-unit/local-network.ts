/** The network of a VM of `ya-vm run`, as the command line has it (host/cli/network-options.ts), and as it crosses the folder. */
import type { LinkKind, OutboundPolicy, OutboundRule, PublishedPort } from '../network/types.ts';
import { Decoder } from './decode.ts';

/** A network of this host's own: its VMs find each other, so nobody lists nodes. In the words of a script's `net`. */
export interface LocalVpn {
  id: string;
  /** `address/prefix`. */
  ip: string;
  nodeIp: string;
  nodes: Record<string, string>;
}

export interface LocalNetworkOptions {
  /** Null: no way out. */
  internet: { policy: OutboundPolicy; publish: PublishedPort[]; mtu?: number } | null;
  vpn: LocalVpn[];
  /** File for what the NICs see; an absolute path. */
  pcap?: string;
  /** Of the VPN's cable. */
  link?: LinkKind;
}

export const LINK_KINDS: readonly LinkKind[] = ['udp', 'tcp', 'unix', 'unix-datagram'];

/** Rules, ports: what a command line may have of each. */
const MAX_ENTRIES = 4096;
const MAX_VPNS = 32;
const MAX_PORT = 65_535;

const decoder: Decoder = new Decoder('YAVM_E_LOCAL');

/** @throws {YavmError} YAVM_E_LOCAL with the place */
export function decodeLocalNetwork(value: unknown): LocalNetworkOptions {
  const { internet, vpn, pcap, link } = decoder.fields(value, 'network');
  const network: LocalNetworkOptions = {
    internet: internet === null ? null : decodeInternet(internet),
    vpn: decoder.list(vpn, 'network.vpn', MAX_VPNS).map(decodeVpn),
  };
  if (pcap !== undefined) network.pcap = decoder.text(pcap, 'network.pcap');
  if (link !== undefined) network.link = choice(link, 'network.link', LINK_KINDS);
  return network;
}

function decodeInternet(value: unknown): LocalNetworkOptions['internet'] {
  const path = 'network.internet';
  const { policy, publish, mtu } = decoder.fields(value, path);
  const { unrestricted, rules } = decoder.fields(policy, `${path}.policy`);
  if (typeof unrestricted !== 'boolean') decoder.refuse(`${path}.policy.unrestricted`, 'not true or false');
  return {
    policy: { unrestricted, rules: decoder.list(rules, `${path}.policy.rules`, MAX_ENTRIES).map(decodeRule) },
    publish: decoder.list(publish, `${path}.publish`, MAX_ENTRIES).map(decodePort),
    ...(mtu === undefined ? {} : { mtu: decoder.count(mtu, `${path}.mtu`) }),
  };
}

function decodeRule(value: unknown, index: number): OutboundRule {
  const path = `network.internet.policy.rules[${index}]`;
  const { host, protocol, port } = decoder.fields(value, path);
  const [kind, text] = decoder.variant(host, `${path}.host`);
  const word = decoder.text(text, `${path}.host.${kind}`);
  return {
    host: choice(kind, `${path}.host`, ['name', 'address']) === 'name' ? { name: word } : { address: word },
    protocol: choice(protocol, `${path}.protocol`, ['tcp', 'udp']),
    port: decodePortNumber(port, `${path}.port`),
  };
}

function decodePort(value: unknown, index: number): PublishedPort {
  const path = `network.internet.publish[${index}]`;
  const { protocol, hostAddress, hostPort, guestPort } = decoder.fields(value, path);
  return {
    protocol: choice(protocol, `${path}.protocol`, ['tcp', 'udp']),
    ...(hostAddress === undefined ? {} : { hostAddress: decoder.text(hostAddress, `${path}.hostAddress`) }),
    hostPort: decodePortNumber(hostPort, `${path}.hostPort`),
    guestPort: decodePortNumber(guestPort, `${path}.guestPort`),
  };
}

function decodeVpn(value: unknown, index: number): LocalVpn {
  const path = `network.vpn[${index}]`;
  const { id, ip, nodeIp, nodes } = decoder.fields(value, path);
  return {
    id: decoder.text(id, `${path}.id`),
    ip: decoder.text(ip, `${path}.ip`),
    nodeIp: decoder.text(nodeIp, `${path}.nodeIp`),
    nodes: decoder.textMap(nodes, `${path}.nodes`, MAX_ENTRIES),
  };
}

function decodePortNumber(value: unknown, path: string): number {
  const port = decoder.count(value, path);
  return port >= 1 && port <= MAX_PORT ? port : decoder.refuse(path, `${port} is no port`);
}

function choice<T extends string>(value: unknown, path: string, choices: readonly T[]): T {
  const found = choices.find((word) => word === value);
  return found ?? decoder.refuse(path, `not one of ${choices.join(', ')}`);
}
