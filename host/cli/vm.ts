/** The VMs of the command line: `shell`'s are host/runtime's, `run`'s are activities, as a provider has them. */
import { startVm as startRuntimeVm } from '../runtime/start-vm.ts';
import type { StartVm } from './boot.ts';
import { standBy } from './stand-by.ts';

export const startVm: StartVm = (spec, { signal, onPhase, log, env }) =>
  startRuntimeVm(spec, { signal, onPhase, logger: log, env });

const startActivityVm: StartVm = async (spec, hooks) =>
  await (await import('./activity-vm.ts')).startActivityVm(spec, hooks);

export const startActivity: StartVm = Object.assign(startActivityVm, { standBy });
