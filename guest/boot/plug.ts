/** Drivers for devices: those that are there, by one walk through sysfs, and those that come later. */
import type { Native } from '../../native/face.ts';
import { sleep } from '../lib/sleep.ts';
import { busAliases, listBuses } from './devices.ts';
import type { ModuleLoader } from './modules.ts';
import { followUevents } from './uevents.ts';

export interface PlugContext {
  native: Native;
  modules: ModuleLoader;
  /** A driver that is there and does not load. */
  onFailure: (error: unknown) => void;
}

/**
 * Loads the drivers of all devices that are there, bus by bus: what a driver finds is announced by uevent. Requests are
 * answered meanwhile.
 */
export async function coldPlug(context: PlugContext): Promise<void> {
  const { native, modules, onFailure } = context;
  for (const bus of listBuses(native, modules.buses()).sort()) {
    for (const alias of busAliases(native, bus)) {
      if (modules.loadAlias(alias, onFailure).length > 0) await sleep(0);
    }
    await sleep(0);
  }
  modules.rest();
}

/** Listens for devices that appear, for the rest of the VM's life, and loads their drivers. To be called before coldPlug. */
export function hotPlug(context: PlugContext): void {
  const { native, modules, onFailure } = context;
  followUevents(native, {
    onAdded: (aliases) => {
      try {
        for (const alias of aliases) modules.loadAlias(alias, onFailure);
        modules.rest();
      } catch (error) {
        // The lists cannot be read: no reason to take the agent down.
        onFailure(error);
      }
    },
    onLost: () => void coldPlug(context).catch(onFailure),
    onFailure,
  });
}
