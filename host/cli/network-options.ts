/** What the network options of `run` and `shell` mean: the way to the internet, published ports, VPNs among this host's VMs. */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { LINK_KINDS, type LocalNetworkOptions, type LocalVpn } from '../exe-unit/local-network.ts';
import { LINK_VARIABLE } from '../exe-unit/network-plan.ts';
import { isYavmError } from '../lib/errors.ts';
import { canonicalIp, formatIp, parseIp, rangeEnd } from '../network/frame/address.ts';
import { parseUrlRule } from '../network/outbound/parse-urls.ts';
import { type LinkKind, MTU, type OutboundRule, type PublishedPort } from '../network/types.ts';
import { checkNetworks, parseNetworks } from '../network/vpn/networks.ts';
import { collect, forOption, parseChoice, parseInteger, usageError } from './options.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const MODES = ['internet', 'none'] as const;
export type NetMode = (typeof MODES)[number];

/** Adds the options. */
export function addNetworkOptions(command: Command): void {
  command
    .option(
      '--net [internet|none]',
      'a way to the internet; without a word: internet (default: none)',
      forOption('--net', parseNetMode),
    )
    .option(
      '--allow <url>',
      'only there, as https://example.com or udp://192.0.2.1:53; may be repeated; implies --net',
      collect(forOption('--allow', parseAllow)),
    )
    .option(
      '-p, --publish <[address:]host:guest[/udp]>',
      "make the VM's port reachable at one of this host; may be repeated; implies --net",
      collect(forOption('--publish', parsePublish)),
    )
    .option(
      '--mtu <bytes>',
      `of the way to the internet (default: ${MTU.outbound})`,
      forOption('--mtu', parseMtu),
    )
    .option(
      '--vpn <name=address/prefix>',
      "a network with this user's other VMs of this host that name it; may be repeated",
      collect(forOption('--vpn', parseVpn)),
    )
    .option('--pcap <file>', 'write what the network interfaces see, for Wireshark')
    .option(
      '--vpn-link <udp|tcp|unix|unix-datagram>',
      `how frames of the VPN leave QEMU (default: $${LINK_VARIABLE}, else udp)`,
      forOption('--vpn-link', parseLink),
    );
}

/** As commander has them. */
interface Given {
  /** True: without a word. */
  net?: true | NetMode;
  allow?: OutboundRule[];
  publish?: PublishedPort[];
  mtu?: number;
  vpn?: LocalVpn[];
  pcap?: string;
  vpnLink?: LinkKind;
}

/** The options together; null: the VM has no network. @throws {YavmError} YAVM_E_USAGE */
export function readNetworkOptions(
  options: Record<string, unknown>,
  environment: Environment,
): LocalNetworkOptions | null {
  const given = options as Given;
  const internet = readInternet(given);
  const vpn = given.vpn ?? [];
  checkVpns(vpn);
  if (given.vpnLink !== undefined && vpn.length === 0) {
    throw usageError('--vpn-link is for a VPN, and there is none', 'Give --vpn NAME=ADDRESS/PREFIX, too.');
  }
  if (internet === null && vpn.length === 0) {
    if (given.pcap === undefined) return null;
    throw usageError('--pcap: the VM has no network', 'Give --net or --vpn, too.');
  }
  const link = vpn.length === 0 ? undefined : (given.vpnLink ?? linkOf(environment));
  return {
    internet,
    vpn,
    ...(given.pcap === undefined ? {} : { pcap: resolve(given.pcap) }),
    ...(link === undefined ? {} : { link }),
  };
}

/** The VPN's cable as the environment has it; undefined: nothing is said there. @throws {YavmError} YAVM_E_USAGE */
export function linkOf(environment: Environment): LinkKind | undefined {
  const text = environment[LINK_VARIABLE];
  return text ? forOption(LINK_VARIABLE, parseLink)(text) : undefined;
}

function readInternet({ net, allow, publish, mtu }: Given): LocalNetworkOptions['internet'] {
  const implied = [
    ...(allow ? ['--allow'] : []),
    ...(publish ? ['--publish'] : []),
    ...(mtu === undefined ? [] : ['--mtu']),
  ];
  if (net === 'none' && implied.length > 0) {
    throw usageError(`--net none excludes ${implied.join(' and ')}`, 'Leave out one of them.');
  }
  if (net === 'none' || (net === undefined && implied.length === 0)) return null;
  checkPorts(publish ?? []);
  return {
    policy: { unrestricted: allow === undefined, rules: allow ?? [] },
    publish: publish ?? [],
    ...(mtu === undefined ? {} : { mtu }),
  };
}

/** @throws {YavmError} YAVM_E_USAGE */
export function parseAllow(url: string): OutboundRule {
  return asUsage(() => parseUrlRule(url));
}

/** `--net`'s word. */
export function parseNetMode(text: string): NetMode {
  const mode = MODES.find((word) => word === text);
  if (mode !== undefined) return mode;
  throw usageError(
    `'${text}' is no network`,
    "Write internet or none, or -- before the VM's command: run --net -- wget …",
  );
}

// ---------------------------------------------------------------- ports

const PUBLISH_HINT =
  'Write HOSTPORT:VMPORT, ADDRESS:HOSTPORT:VMPORT, and /udp behind it if it is not TCP: 127.0.0.1:8080:80.';
const MAX_PORT = 65_535;

/** docker's `[address:]host:guest[/tcp|udp]`; an IPv6 address in brackets. */
export function parsePublish(text: string): PublishedPort {
  const match = /^(?:(\[[^\]]*\]|[^:[\]]*):)?([^:]*):([^:/]*)(?:\/(.*))?$/s.exec(text);
  if (!match) throw usageError(`'${text}' is no port to publish`, PUBLISH_HINT);
  const [, address, host = '', guest = '', protocol = 'tcp'] = match;
  if (protocol !== 'tcp' && protocol !== 'udp') {
    throw usageError(`'${text}': '${protocol}' is neither tcp nor udp`, PUBLISH_HINT);
  }
  return {
    protocol,
    ...(address === undefined ? {} : { hostAddress: parseHostAddress(address, text) }),
    hostPort: parsePort(host, text),
    guestPort: parsePort(guest, text),
  };
}

function parseHostAddress(word: string, text: string): string {
  const bracketed = word.startsWith('[');
  const address = bracketed ? word.slice(1, -1) : word;
  if (isIP(address) !== (bracketed ? 6 : 4) || address.includes('%')) {
    throw usageError(`'${text}': '${address}' is no address of this host`, PUBLISH_HINT);
  }
  return canonicalIp(address);
}

function parsePort(word: string, text: string): number {
  const port = /^\d{1,5}$/.test(word) ? Number(word) : 0;
  if (port < 1 || port > MAX_PORT) throw usageError(`'${text}': '${word}' is no port`, PUBLISH_HINT);
  return port;
}

function checkPorts(publish: readonly PublishedPort[]): void {
  const taken = new Set<string>();
  for (const { protocol, hostAddress = '*', hostPort } of publish) {
    const key = `${hostAddress} ${hostPort}/${protocol}`;
    if (taken.has(key))
      throw usageError(`--publish: port ${hostPort}/${protocol} of this host is given twice`);
    taken.add(key);
  }
}

/** IPv6 has no smaller one (RFC 8200), and passt no larger. */
function parseMtu(text: string): number {
  return parseInteger(text, MTU.vpnIpv6, MTU.outbound, 'MTU');
}

// ---------------------------------------------------------------- VPN

const VPN_HINT =
  'Write NAME=ADDRESS/PREFIX, as lab=10.5.0.2/24; VMs that give the same name are in one network.';

/** `name=address/prefix`: the VM's own address there. */
export function parseVpn(text: string): LocalVpn {
  const match = /^([A-Za-z0-9][\w.-]{0,63})=([^/]+)\/(\d{1,3})$/.exec(text);
  if (!match) throw usageError(`'${text}' is no network and address`, VPN_HINT);
  const [, id = '', address = '', bits] = match;
  if (isIP(address) === 0 || address.includes('%')) {
    throw usageError(`'${text}': '${address}' is no address`, VPN_HINT);
  }
  const nodeIp = canonicalIp(address);
  const bytes = parseIp(nodeIp);
  const prefix = Number(bits);
  if (prefix < 1 || prefix >= 8 * bytes.length) {
    throw usageError(`'${text}': a network of /${prefix} has no place for several VMs`, VPN_HINT);
  }
  const [first, last] = (['first', 'last'] as const).map((end) => formatIp(rangeEnd(bytes, prefix, end)));
  const shared = nodeIp === first || (bytes.length === 4 && nodeIp === last);
  if (shared && prefix < 8 * bytes.length - 1) {
    throw usageError(`'${text}': ${nodeIp} is the whole network's address, no single VM's`, VPN_HINT);
  }
  const vpn = { id, ip: `${first}/${prefix}`, nodeIp, nodes: {} };
  checkVpns([vpn]);
  return vpn;
}

/** Each by itself, and that they are apart. */
function checkVpns(vpns: readonly LocalVpn[]): void {
  asUsage(() => checkNetworks(parseNetworks(vpns)));
}

/** What a script's requestor is told with other codes is here the command line's fault. */
function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!isYavmError(error)) throw error;
    throw usageError(error.message, error.hint);
  }
}

function parseLink(text: string): LinkKind {
  return parseChoice(text, LINK_KINDS, 'kind of link');
}
