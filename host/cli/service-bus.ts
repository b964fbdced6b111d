/** `ya-vm service-bus`: the exe-unit, as a provider starts it for an activity. */
import type { Command } from 'commander';
import { readExeUnitOptions } from '../exe-unit/options.ts';
import type { Act } from './commands.ts';
import { addActivityOptions, addSupervisorOptions } from './exe-unit-options.ts';

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
    const { runExeUnit } = await import('../exe-unit/supervisor.ts');
    return await runExeUnit(exeUnit, { env: context.env, terminal: context.stderr.isTTY === true });
  });
}
