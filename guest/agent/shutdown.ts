/** `shutdown`: TERM, KILL after the grace, sync, unmount, reply, power off. */

import { unmountAll } from '../boot/teardown.ts';
import { SIGTERM } from '../lib/constants.ts';
import { sleep } from '../lib/sleep.ts';
import type { ShutdownRequest } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';
import { cancelAll } from './files.ts';
import { runHook } from './hooks.ts';

/** How long killed processes get to disappear (a process in uninterruptible sleep may not). */
const KILL_DEADLINE = 2000;
const POLL_INTERVAL = 5;
/** LINUX_REBOOT_CMD_POWER_OFF */
const POWER_OFF = 0x4321fedc;

/** Stops everything in order. The reply is sent before the power goes; nothing happens after it. */
export async function shutdown(agent: Agent, request: ShutdownRequest): Promise<Record<string, never>> {
  agent.stopping = true;
  if (agent.configured) {
    await runHook(agent, 'beforeStop').catch((error) => agent.log.warn(String(error.message)));
    await stopCommands(agent, request.grace);
    for (const problem of unmountAll(agent.native, agent.task().root)) agent.log.warn(problem);
  }
  agent.native.sync();
  // The reply is queued when this function returns; a port write reaches QEMU before reboot(2) is called.
  setTimeout(() => agent.native.reboot(POWER_OFF), 0);
  return {};
}

async function stopCommands(agent: Agent, grace: number): Promise<void> {
  const { commands, cgroups } = agent.task();
  cancelAll(agent.task());
  commands.signalAll(SIGTERM);
  if (await emptyWithin(agent, grace)) return;
  cgroups.killAll();
  if (!(await emptyWithin(agent, KILL_DEADLINE))) agent.log.warn('processes survived SIGKILL');
}

/** Whether all commands' processes are gone within `milliseconds`. */
async function emptyWithin(agent: Agent, milliseconds: number): Promise<boolean> {
  const { cgroups } = agent.task();
  const deadline = agent.native.monotonic() + milliseconds;
  while (cgroups.populated()) {
    if (agent.native.monotonic() >= deadline) return false;
    await sleep(POLL_INTERVAL);
  }
  return true;
}
