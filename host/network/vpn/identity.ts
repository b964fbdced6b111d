/** Whose node this is, as the bus's identity service says (exe-unit.md 8.2). */
import type { Gsb } from '../../gsb/types.ts';
import { flexMap } from '../../gsb/values.ts';
import { YavmError } from '../../lib/errors.ts';

/** Milliseconds. */
const PROMPT = 10_000;

/** In lower case. @throws as {@link Gsb.call}; {YavmError} YAVM_E_NET_NODE: the answer has no id */
export async function askOwnId(gsb: Pick<Gsb, 'call'>): Promise<string> {
  const answer = await gsb.call('/local/identity/Get', 'byDefault', { deadline: PROMPT });
  const id = flexMap(answer)?.nodeId;
  if (typeof id === 'string' && /^0x[0-9a-f]{40}$/i.test(id)) return id.toLowerCase();
  throw new YavmError('YAVM_E_NET_NODE', 'the node has no default identity', {
    hint: 'yagna id show',
  });
}
