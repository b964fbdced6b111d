/**
 * A deployment's networks: from a script's texts to what the relay works with. What is refused, when, and in which words
 * is upstream's (exe-unit.md 8.2, recordings vpn-errors, vpn-start-errors); IPv6, and the bounds, are ours. Pure.
 */
import { isNodeId } from '../../gsb/node-id.ts';
import { YavmError } from '../../lib/errors.ts';
import { formatIp, inRange, parseIp, rangeEnd } from '../frame/address.ts';
import type { VpnNetwork } from '../types.ts';

/** One entry of a deploy command's `net`. */
export interface NetworkSource {
  id: string;
  /** `address/prefix`, or an address, to which `mask` belongs. */
  ip: string;
  mask?: string | undefined;
  gateway?: string | undefined;
  nodeIp: string;
  /** Node ids by address. */
  nodes: Readonly<Record<string, string>>;
}

/** Networks of one activity. */
export const MAX_NETWORKS = 32;
/** Addresses that the requestor gives in one network, at deploy and later: each costs a copy of a broadcast. */
export const MAX_NODES = 4096;
/** Characters of a network's id; yagna's have 32. */
const MAX_ID = 128;
/** The id is a segment of names on the bus. */
const NETWORK_ID = /^[^/\s\p{Cc}]+$/u;
/** Bits, where neither prefix nor mask is given. */
const DEFAULT_PREFIX = { 4: 24, 16: 64 } as const;

/**
 * What deploy takes. Host bits of a network's address may be set, and nodes may be outside: that is for
 * {@link checkNetworks}.
 * @throws {YavmError} YAVM_E_NET_ADDRESS (no address, or one that no node can have), YAVM_E_NET_NODE (no node id),
 * YAVM_E_NET_TAKEN (an address twice), YAVM_E_NET_NETWORK (no network id, too many of something)
 */
export function parseNetworks(list: readonly NetworkSource[]): VpnNetwork[] {
  if (list.length > MAX_NETWORKS) {
    throw new YavmError(
      'YAVM_E_NET_NETWORK',
      `${list.length} networks: at most ${MAX_NETWORKS} are possible`,
    );
  }
  return list.map(parseNetwork);
}

function parseNetwork(source: NetworkSource): VpnNetwork {
  const { id } = source;
  if (id.length > MAX_ID || !NETWORK_ID.test(id)) {
    throw new YavmError('YAVM_E_NET_NETWORK', `Invalid network id: '${id.slice(0, MAX_ID)}'`);
  }
  const where = `network ${id}`;
  const range = parseRange(source.ip, source.mask, where);
  const network: VpnNetwork = {
    id,
    ...range,
    nodeIp: parseNodeAddress(source.nodeIp, `${where}, nodeIp`),
    nodes: parseNodes(source.nodes, where),
  };
  // An empty text is no gateway: that is how upstream's runtime gets it.
  if (source.gateway) network.gateway = formatIp(parseAddress(source.gateway, `${where}, gateway`));
  return network;
}

function parseRange(
  ip: string,
  mask: string | undefined,
  where: string,
): Pick<VpnNetwork, 'address' | 'prefix'> {
  const [text = '', bits] = ip.split('/', 2);
  const address = parseAddress(text, `${where}, ip`);
  const family = address.length as 4 | 16;
  let prefix: number = DEFAULT_PREFIX[family];
  if (bits !== undefined) {
    prefix = /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN;
    if (!(prefix <= 8 * family) || ip.split('/').length > 2) throw syntaxError(ip, `${where}, ip`);
  } else if (mask) {
    const bytes = parseAddress(mask, `${where}, mask`);
    if (bytes.length !== family) throw syntaxError(mask, `${where}, mask`);
    prefix = leadingOnes(bytes);
  }
  return { address: formatIp(address), prefix };
}

/** As upstream: what comes behind the first zero does not count. */
function leadingOnes(mask: Uint8Array): number {
  let ones = 0;
  while (ones < 8 * mask.length && ((mask[ones >> 3] as number) & (0x80 >> (ones & 7))) !== 0) ones++;
  return ones;
}

function parseNodes(nodes: Readonly<Record<string, string>>, where: string): Record<string, string> {
  const entries = Object.entries(nodes);
  if (entries.length > MAX_NODES) {
    const text = `${where}: ${entries.length} nodes: at most ${MAX_NODES} are possible`;
    throw new YavmError('YAVM_E_NET_NETWORK', text);
  }
  const parsed: Record<string, string> = Object.create(null);
  for (const [address, nodeId] of entries) {
    const canonical = parseNodeAddress(address, `${where}, nodes`);
    const id = parseNodeId(nodeId, where);
    // IPv6 has many spellings.
    if ((parsed[canonical] ?? id) !== id) throw addressTaken(canonical);
    parsed[canonical] = id;
  }
  return parsed;
}

/** In lower case. @throws {YavmError} YAVM_E_NET_NODE */
export function parseNodeId(text: string, where: string): string {
  const id = text.toLowerCase();
  if (isNodeId(id)) return id;
  throw new YavmError('YAVM_E_NET_NODE', `Invalid node id: '${text.slice(0, 100)}'`, {
    hint: `${where}: an id is 0x and 40 hexadecimal digits.`,
  });
}

/**
 * An address that a single node can have, in canonical text: not loopback, unspecified, multicast or broadcast.
 * @throws {YavmError} YAVM_E_NET_ADDRESS
 */
export function parseNodeAddress(text: string, where: string): string {
  const bytes = parseAddress(text, where);
  const canonical = formatIp(bytes);
  if (isOfOneNode(bytes)) return canonical;
  throw new YavmError('YAVM_E_NET_ADDRESS', `IP address not allowed: ${canonical}`, {
    hint: `${where}: a node's address is not loopback, unspecified, multicast or broadcast.`,
  });
}

/** Whether a single node can have the address. */
export function isOfOneNode(bytes: Uint8Array): boolean {
  const [first] = bytes as unknown as [number];
  if (bytes.length === 16) {
    const unspecifiedOrLoopback =
      bytes.subarray(0, 15).every((byte) => byte === 0) && (bytes[15] as number) < 2;
    return first !== 0xff && !unspecifiedOrLoopback;
  }
  const multicast = first >= 224 && first < 240;
  return (
    first !== 127 && !multicast && !bytes.every((byte) => byte === 0) && !bytes.every((byte) => byte === 0xff)
  );
}

function parseAddress(text: string, where: string): Uint8Array {
  try {
    return parseIp(text);
  } catch {
    throw syntaxError(text, where);
  }
}

/** Upstream's words do not say what or where; the hint does, for the provider's log. */
function syntaxError(text: string, where: string): YavmError {
  return new YavmError('YAVM_E_NET_ADDRESS', 'Invalid IP address: invalid IP address syntax', {
    hint: `${where} is '${text.slice(0, 100)}'.`,
  });
}

/** @param address Canonical text. */
export function addressTaken(address: string): YavmError {
  return new YavmError('YAVM_E_NET_TAKEN', `IP address is taken: ${address}`);
}

/** @param address Canonical text. */
export function addressOutside(address: string): YavmError {
  return new YavmError('YAVM_E_NET_ADDRESS', `Invalid network IP address: ${address}`);
}

/**
 * What start takes: nodes inside their network, and networks apart from each other, since an address alone decides
 * where a frame goes. The VM's own address as well, which upstream does not look at: no peer could be told of it.
 * @throws {YavmError} YAVM_E_NET_ADDRESS, YAVM_E_NET_TAKEN
 */
export function checkNetworks(networks: readonly VpnNetwork[]): void {
  for (const [index, network] of networks.entries()) {
    const range = parseIp(network.address);
    for (const address of [network.nodeIp, ...Object.keys(network.nodes)]) {
      if (!inRange(parseIp(address), range, network.prefix)) throw addressOutside(address);
    }
    for (const other of networks.slice(0, index)) {
      if (other.id === network.id) {
        throw new YavmError('YAVM_E_NET_TAKEN', `Network id taken: ${network.id}`);
      }
      if (overlap(network, other)) {
        const first = formatIp(rangeEnd(range, network.prefix, 'first'));
        throw new YavmError('YAVM_E_NET_TAKEN', `Network IP address taken: ${first}`, {
          hint: `Networks ${other.id} and ${network.id} have addresses in common.`,
        });
      }
    }
  }
}

function overlap(a: VpnNetwork, b: VpnNetwork): boolean {
  return inRange(parseIp(a.address), parseIp(b.address), Math.min(a.prefix, b.prefix));
}
