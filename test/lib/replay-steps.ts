/** What a recording says beside its packets: answers, and how it ends. */
import type { CallReply, Packet } from '../../host/gsb/index.ts';
import { type CallStep, isReport, type Step } from './replay-recording.ts';

/** What each report of a kind was answered with; undefined: not at all. */
export function answersTo(steps: readonly Step[], what: 'State' | 'Usage'): (CallReply | undefined)[] {
  const replies = new Map<string, CallReply>();
  for (const { from, packet } of steps) {
    if (from === 'router' && packet?.kind === 'callReply') replies.set(packet.requestId, packet);
  }
  return steps.flatMap(({ packet }) => (isReport(packet, what) ? [replies.get(packet.requestId)] : []));
}

/** The signal that the recorded supervisor says it was ended by. */
export function endingSignal(steps: readonly Step[]): 'SIGTERM' | 'SIGINT' | undefined {
  const last = steps.findLast(({ packet }) => isReport(packet, 'State'))?.packet;
  const reason = Buffer.from((last as CallStep | undefined)?.data ?? '').toString('latin1');
  const number = /Interrupted by signal: (\d+)/.exec(reason)?.[1];
  return ({ 2: 'SIGINT', 15: 'SIGTERM' } as const)[Number(number) as 2 | 15];
}

export const isReply = (packet: Packet): packet is CallReply => packet.kind === 'callReply';

/** Upstream has two replacements for a character that comes in two parts. */
export function sizeOf(output: unknown): number {
  if (Array.isArray(output)) return output.length;
  return typeof output === 'string' ? output.replaceAll('\uFFFD', '').length : 0;
}
