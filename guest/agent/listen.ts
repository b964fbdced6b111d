/** Opens the native channels of the three ports, and decides what happens when one of them fails. */
import type { Native } from '../../native/face.ts';
import { MAX_CONTROL_PAYLOAD, MAX_DATA_PAYLOAD, MAX_LOG_PAYLOAD } from '../protocol/frames.ts';
import { PORTS } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';
import type { PortName } from './ports.ts';
import { shutdown } from './shutdown.ts';

/** Bytes queued for a port before sends fail: a few full frames. Streams do not queue, they wait. */
const MAX_QUEUED: Record<PortName, number> = {
  control: 4 * MAX_CONTROL_PAYLOAD,
  data: MAX_DATA_PAYLOAD,
  log: 4 * MAX_LOG_PAYLOAD,
};
/** Grace for commands when the host has gone away, milliseconds. */
const ORPHANED_GRACE = 2000;

export interface Channels {
  control: number;
  data: number;
  log: number;
  /** From now on frames reach the session; ones that came earlier were kept by the port. */
  serve(agent: Agent): void;
}

export function listen(native: Native, fds: Record<PortName, number>): Channels {
  let serving: Agent | null = null;

  const open = (name: PortName, maxPayload: number): number =>
    native.channelOpen(fds[name], {
      maxPayload,
      maxQueued: MAX_QUEUED[name],
      onFrame: (type, stream, payload) => {
        if (!serving) return;
        if (name === 'control') serving.session.receive(type, payload);
        else strange(serving, name, `frame of type ${type} on stream ${stream}`);
      },
      onEnd: (reason, message) => {
        if (serving) ended(serving, name, reason, message);
      },
    });

  return {
    control: open('control', MAX_CONTROL_PAYLOAD),
    data: open('data', MAX_DATA_PAYLOAD),
    log: open('log', MAX_LOG_PAYLOAD),
    serve: (agent) => {
      serving = agent;
    },
  };
}

/** The host sent something that has no meaning on this port. It is told; nothing else changes. */
function strange(agent: Agent, name: PortName, message: string): void {
  agent.session.notify({ event: 'protocol-error', port: PORTS[name], message });
}

/**
 * A port is dead: its bytes were no frames, or the host closed it. Without control nobody can ever stop this VM,
 * so it stops itself in order; without data or log the host is told and decides.
 */
function ended(agent: Agent, name: PortName, reason: string, message: string): void {
  agent.log.error(`port ${PORTS[name]} ended`, { reason, detail: message });
  if (name !== 'control') {
    agent.session.notify({ event: 'protocol-error', port: PORTS[name], message: `${reason}: ${message}` });
    return;
  }
  if (!agent.stopping) void shutdown(agent, { op: 'shutdown', grace: ORPHANED_GRACE });
}
