/** Whose node this is, as the bus's identity service says (exe-unit.md 8.2). */
import { isNodeId } from '../../gsb/node-id.ts';
import type { Flex, Gsb } from '../../gsb/types.ts';
import { flexMap } from '../../gsb/values.ts';
import { isYavmError, YavmError } from '../../lib/errors.ts';

const ADDRESS = '/local/identity/Get';
/** Milliseconds. */
const PROMPT = 10_000;

/** In lower case. @throws as {@link Gsb.call}; {YavmError} YAVM_E_NET_NODE: the answer has no id */
export async function askOwnId(gsb: Pick<Gsb, 'call'>): Promise<string> {
  const answer = await ask(gsb);
  const id = flexMap(answer)?.nodeId;
  if (typeof id === 'string' && isNodeId(id.toLowerCase())) return id.toLowerCase();
  throw new YavmError('YAVM_E_NET_NODE', 'the node has no default identity', {
    hint: 'yagna id show',
  });
}

/** A bus without such a service is told in upstream's words (recording vpn-start-errors). */
async function ask(gsb: Pick<Gsb, 'call'>): Promise<Flex> {
  try {
    return await gsb.call(ADDRESS, 'byDefault', { deadline: PROMPT });
  } catch (error) {
    if (!isYavmError(error, 'YAVM_E_GSB_NO_ENDPOINT')) throw error;
    throw new YavmError(error.code, 'Bad request: endpoint address not found', {
      hint: `Nobody has ${ADDRESS} on this bus: is it a node's?`,
    });
  }
}
