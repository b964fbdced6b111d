/** A recorded scenario as steps of a conversation between a supervisor and its bus. */
import { decodeBody, decodePacket, type Packet } from '../../host/gsb/index.ts';
import { meaning } from './flex-meaning.ts';
import { readRecording } from './gsb-recordings.ts';

const LENGTH_BYTES = 4;

/** One packet; without one, that side closed the connection. */
export interface Step {
  from: 'exe-unit' | 'router';
  packet: Packet | undefined;
}

export type CallStep = Extract<Packet, { kind: 'callRequest' }>;

export function readScenario(name: string): Step[] {
  return readRecording(name).map(({ dir, frame }) => ({
    from: dir === 'exe-unit→router' ? 'exe-unit' : 'router',
    packet: frame && decodePacket(frame.subarray(LENGTH_BYTES)),
  }));
}

/** Id and report address of the recorded activity. */
export function activityOf(steps: readonly Step[]): { activityId: string; reportUrl: string } {
  let activityId = '';
  let reportUrl = '';
  for (const { from, packet } of steps) {
    if (packet?.kind === 'registerRequest')
      activityId = /^\/public\/exeunit\/(\w+)/.exec(packet.serviceId)?.[1] ?? activityId;
    if (from === 'exe-unit' && isReport(packet, 'State'))
      reportUrl = packet.address.slice(0, packet.address.lastIndexOf('/'));
  }
  return { activityId, reportUrl };
}

export function isReport(packet: Packet | undefined, what: 'State' | 'Usage'): packet is CallStep {
  return packet?.kind === 'callRequest' && packet.address.endsWith(`/SetActivity${what}`);
}

/** A call of the supervisor's that is no report: to a requestor's files, or for the node's identity. */
export function isOutward(packet: Packet | undefined): packet is CallStep {
  return packet?.kind === 'callRequest' && /^\/(transfer\/net|local\/identity)\//.test(packet.address);
}

/** A frame of the VPN on its way to a peer. */
export function isFrame(packet: Packet | undefined): packet is CallStep {
  return packet?.kind === 'callRequest' && packet.address.startsWith('/udp/net/');
}

/**
 * The recording as if the script had ended before its command `number`, its last: of a batch that is the first one, which
 * is also how the runtime's commands are counted.
 */
export function withoutCommand(steps: readonly Step[], number: number): Step[] {
  const reports = steps.flatMap(({ from, packet }) =>
    from === 'exe-unit' && isReport(packet, 'State') && pairOf(packet)[1] !== 'Terminated' ? [packet] : [],
  );
  const begins = reports.filter((report) => pairOf(report)[1] !== null);
  const begin = begins[number];
  const end = begin && reports[reports.indexOf(begin) + 1];
  const ids = new Set([begin?.requestId, end?.requestId]);
  return steps.filter(({ packet }) => {
    if (packet?.kind === 'callRequest') return !ids.has(packet.requestId);
    if (packet?.kind !== 'callReply') return true;
    if (ids.has(packet.requestId)) return false;
    if (packet.replyType === 'full') return true;
    const { Ok: event } = meaning(decodeBody(packet.data)) as { Ok: { index: number } };
    return event.index !== number;
  });
}

/** The pair in a report of the state. */
export function pairOf(report: CallStep): [string, string | null] {
  const { state } = meaning(decodeBody(report.data)) as { state: { state: [string, string | null] } };
  return state.state;
}

/** Vectors as they were reported. */
export function usageOf(steps: readonly Step[]): number[][] {
  return steps.flatMap(({ packet }) => {
    if (!isReport(packet, 'Usage')) return [];
    const { usage } = meaning(decodeBody(packet.data)) as { usage: { currentUsage: number[] } };
    return [usage.currentUsage];
  });
}
