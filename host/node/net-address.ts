/** Addresses of other nodes' services, as yagna's net knows them (exe-unit.md 4.11, 6.5). */

/** `/net/<node>/…`: messages; the same behind `/transfer`: bulk data; behind `/udp`: what may get lost. */
const OF_A_NODE = /^(\/transfer|\/udp)?\/net\/(0x[0-9a-f]{40})(\/.+)$/;

export interface NetAddress {
  nodeId: string;
  /** Where the call arrives there: `/transfer/net/0x…/gftp/a/GetChunk` is `/public/gftp/a/GetChunk`. */
  address: string;
  /** What goes there may get lost. */
  lossy: boolean;
}

/** Undefined for the address of no node's service. */
export function netAddress(address: string): NetAddress | undefined {
  const [, way, nodeId, rest] = OF_A_NODE.exec(address) ?? [];
  return nodeId && rest ? { nodeId, address: `/public${rest}`, lossy: way === '/udp' } : undefined;
}
