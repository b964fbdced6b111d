/** `/local/identity/Get`: whose node this is (exe-unit.md 8.2). */
import { isNodeId } from '../gsb/node-id.ts';
import type { Flex, Gsb } from '../gsb/types.ts';
import { badMessage, mapOf, textOf } from './decode.ts';
import { readIdentityQuery } from './messages.ts';

export const IDENTITY_ADDRESS = '/local/identity';

export interface Identity {
  /** `0x` and 40 hexadecimal digits, lower case. */
  nodeId: string;
  alias?: string;
}

/** Answers with the node's one identity, or null when another one was asked for. @throws as {@link Gsb.bind} */
export async function serveIdentity(gsb: Gsb, identity: Identity): Promise<void> {
  await gsb.bind(`${IDENTITY_ADDRESS}/Get`, { unary: (body) => identify(body, identity) });
}

export function identify(body: Flex, { nodeId, alias }: Identity): Flex {
  const query = readIdentityQuery(body);
  const fits =
    query.by === 'default' ||
    (query.by === 'id' ? query.text.toLowerCase() === nodeId : query.text === alias);
  if (!fits) return null;
  return { alias: alias ?? null, nodeId, isLocked: false, isDefault: true, deleted: false };
}

/** Milliseconds. */
const PROMPT = 10_000;

/** The id of the node that a bus belongs to. @throws as {@link Gsb.call}; {YavmError} YAVM_E_NODE_MESSAGE */
export async function askNodeId(gsb: Pick<Gsb, 'call'>): Promise<string> {
  const answer = await gsb.call(`${IDENTITY_ADDRESS}/Get`, 'byDefault', { deadline: PROMPT });
  const nodeId = textOf(mapOf(answer, 'the identity').nodeId, 'nodeId').toLowerCase();
  if (!isNodeId(nodeId)) throw badMessage('nodeId is no id');
  return nodeId;
}
