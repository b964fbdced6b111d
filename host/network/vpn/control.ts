/** What peers call of a network: changes of its nodes, and frames as typed packets of older nodes (exe-unit.md 8.5). */
import { type CallInfo, type Flex, type FlexMap, RpcError, type UnaryHandler } from '../../gsb/types.ts';
import { flexBytes, flexList, flexMap } from '../../gsb/values.ts';
import { isYavmError } from '../../lib/errors.ts';
import { MAX_NODES } from './networks.ts';
import type { TableChange } from './siblings-face.ts';

/** A decoded VpnControl. */
export interface ControlMessage {
  networkId: string;
  change: TableChange;
}

/**
 * Applies what VpnControl asks for.
 * @param apply Its YAVM_E_NET_… errors become `{"Err": {"service": text}}`, in the words they have.
 */
export function controlHandler(apply: (message: ControlMessage) => void): UnaryHandler {
  return (body) => {
    try {
      apply(readControl(body));
      return null;
    } catch (error) {
      if (isYavmError(error) && error.code.startsWith('YAVM_E_NET_'))
        throw new RpcError('service', error.message);
      throw error;
    }
  };
}

/** @throws {RpcError} badRequest */
export function readControl(body: Flex): ControlMessage {
  const [[kind, content] = ['', null], ...others] = Object.entries(flexMap(body) ?? {});
  const fields = flexMap(content);
  if (others.length > 0 || fields === undefined) throw bad('neither addNodes nor removeNodes');
  if (kind === 'addNodes') return { networkId: networkIdOf(fields), change: readAdd(fields) };
  if (kind === 'removeNodes') return { networkId: networkIdOf(fields), change: readRemove(fields) };
  throw bad(`unknown variant '${kind.slice(0, 40)}'`);
}

function networkIdOf({ network_id }: FlexMap): string {
  if (typeof network_id !== 'string') throw bad('network_id is no text');
  return network_id;
}

function readAdd({ nodes }: FlexMap): TableChange {
  const entries = Object.entries(flexMap(nodes) ?? bad('nodes is no map'));
  checkCount(entries.length);
  const read: Record<string, string> = Object.create(null);
  for (const [address, nodeId] of entries) {
    if (typeof nodeId !== 'string') throw bad('a node id is no text');
    read[address] = nodeId;
  }
  return { kind: 'add', nodes: read };
}

function readRemove({ node_ids }: FlexMap): TableChange {
  const ids = flexList(node_ids);
  if (ids === undefined) throw bad('node_ids is no list');
  checkCount(ids.length);
  const isText = (id: Flex): id is string => typeof id === 'string';
  if (!ids.every(isText)) throw bad('a node id is no text');
  return { kind: 'remove', nodeIds: ids };
}

function checkCount(count: number): void {
  if (count > MAX_NODES) throw bad(`${count} nodes: at most ${MAX_NODES} are possible`);
}

function bad(text: string): never {
  throw new RpcError('badRequest', `VpnControl: ${text}`);
}

/** Takes a frame that came as a vector of integers, or as a blob. */
export function packetHandler(take: (frame: Uint8Array | undefined, call: CallInfo) => void): UnaryHandler {
  return (body, call) => {
    const frame = flexBytes(body);
    take(frame, call);
    if (frame === undefined) throw new RpcError('badRequest', 'VpnPacket: no bytes');
    return null;
  };
}
