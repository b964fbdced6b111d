/** `ya-vm service-bus`: the exe-unit, as a provider starts it for an activity. */
import { read } from 'node:fs';
import type { Command } from 'commander';
import { LOCAL_FOLDER } from '../exe-unit/local.ts';
import { readExeUnitOptions } from '../exe-unit/options.ts';
import type { Act } from './commands.ts';
import { addActivityOptions, addSupervisorOptions, exeUnitHost } from './exe-unit-options.ts';
import { EXIT } from './exit.ts';

const HELP = `
A provider starts this; by hand, 'ya-vm run' does the same and more. The bus is where $GSB_URL says
(default: unix:/tmp/yagna.sock). The log is in $EXE_UNIT_LOG_DIR (default: ./logs).

Exit codes: 0 the activity ended, for whatever reason; 1 it could not start.`;

export function define(command: Command, act: Act): void {
  command
    .argument('<activity-id>', 'names the activity on the bus')
    .argument('<report-url>', 'address for reports of state and usage: /local/activity');
  addActivityOptions(command);
  addSupervisorOptions(command);
  command.addHelpText('after', HELP);
  act(command, async (context, options, [activityId, reportUrl]) => {
    const exeUnit = readExeUnitOptions({ ...options, activityId, reportUrl }, context.env);
    const local = context.env[LOCAL_FOLDER] !== undefined;
    if (local && !(await tieToParent())) return EXIT.failure;
    const { runExeUnit } = await import('../exe-unit/supervisor.ts');
    if (local) await endOfInput();
    return await runExeUnit(exeUnit, exeUnitHost(context, options));
  });
}

/** PR_SET_PDEATHSIG of prctl(2). */
const SET_DEATH_SIGNAL = 1;
const KILL = 9;
/** Who takes over children whose parent has gone. */
const INIT = 1;

/** The supervisor of a `ya-vm run` has nobody left when that is killed, bus included. False: it is gone already. */
async function tieToParent(): Promise<boolean> {
  const native = (await import('../../native/load.ts')).loadNative();
  native.prctl(SET_DEATH_SIGNAL, KILL);
  return native.getParentPid() !== INIT;
}

/** It was started before there was an activity, and standard input ends when there is. */
function endOfInput(): Promise<void> {
  return new Promise((resolve, reject) => {
    read(0, Buffer.alloc(1), 0, 1, null, (error) => (error ? reject(error) : resolve()));
  });
}
