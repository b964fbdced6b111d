/** Addresses of other nodes' services, as yagna's net knows them (exe-unit.md 4.11, 6.5). */

/** `/net/<node>/…`: messages; the same behind `/transfer`: bulk data; behind `/udp`: what may get lost. */
const OF_A_NODE = /^(?:\/transfer|\/udp)?\/net\/(0x[0-9a-f]{40})(\/.+)$/;

/**
 * Where a call for `nodeId` arrives there: `/transfer/net/0x…/gftp/a/GetChunk` is `/public/gftp/a/GetChunk`. Undefined for
 * the address of another node, or of none.
 */
export function publicAddress(address: string, nodeId: string): string | undefined {
  const [, node, rest] = OF_A_NODE.exec(address) ?? [];
  return node === nodeId ? `/public${rest}` : undefined;
}
