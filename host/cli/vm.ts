/** The VMs of the command line are host/runtime's. */
import { startVm as startRuntimeVm } from '../runtime/start-vm.ts';
import type { StartVm } from './boot.ts';

export const startVm: StartVm = (spec, { signal, onPhase, log, env }) =>
  startRuntimeVm(spec, { signal, onPhase, logger: log, env });
