/** When modules are loaded that the agent itself does not need: those asked for before commands begin, drivers after. */
import { coldPlug, hotPlug, type PlugContext } from '../boot/plug.ts';
import type { ConfigureRequest } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';

/** Loads what the host names; for graphics cards also the drivers of all devices. @throws {GuestError} module-failed */
export async function loadRequested(agent: Agent, { modules, gpu }: ConfigureRequest): Promise<void> {
  for (const name of modules?.load ?? []) agent.modules.load(name);
  if (gpu) await coldPlug(contextOf(agent));
}

/** Loads drivers from now on, for what is there and for what comes. Nothing waits for it, and nothing fails by it. */
export async function followDevices(agent: Agent): Promise<void> {
  const context = contextOf(agent);
  try {
    // First the ears, then the walk: nothing falls in between.
    hotPlug(context);
    // What the machine has was there when it prepared.
    if (agent.prepared) return;
    agent.modules.loadFor('extras');
    await coldPlug(context);
  } catch (error) {
    context.onFailure(error);
  }
}

/** Loads drivers for all devices that are there now. */
export async function loadPresent(agent: Agent): Promise<void> {
  await coldPlug(contextOf(agent));
}

function contextOf({ native, modules, log }: Agent): PlugContext {
  return {
    native,
    modules,
    onFailure: (error) => log.warn(error instanceof Error ? error.message : String(error)),
  };
}
