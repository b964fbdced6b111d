/** `abort`, only in the test build: the kernel spares PID 1 from signals, so this is how its death is tested. */
import { O_CLOEXEC, O_WRONLY } from '../lib/constants.ts';
import type { AbortRequest } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';

export function abort(agent: Agent, request: AbortRequest): Record<string, never> {
  const { native } = agent;
  if (request.how === 'panic') {
    native.write(native.open('/proc/sysrq-trigger', O_WRONLY | O_CLOEXEC, 0), new Uint8Array([0x63]));
  } else if (request.how === 'rejection') {
    void Promise.reject(new Error('rejected by an abort request'));
  } else {
    setTimeout(() => {
      throw new Error('thrown by an abort request');
    }, 0);
  }
  return {};
}
