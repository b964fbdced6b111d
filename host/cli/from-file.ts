/** `ya-vm from-file`: an activity whose script is a file instead of what a requestor sends. */
import type { Command } from 'commander';
import { readExeUnitOptions } from '../exe-unit/options.ts';
import type { Act } from './commands.ts';
import { addActivityOptions, addSupervisorOptions, exeUnitHost } from './exe-unit-options.ts';

const HELP = `
The script is a JSON array of commands: [{"deploy": {}}, {"start": {}}, {"run": {"entry_point": "/bin/true"}}].
It is run once; the VM then stays until a signal ends it.`;

export function define(command: Command, act: Act): void {
  command
    .argument('<script>', 'file with the commands, JSON')
    .option('--service-id <id>', 'bind this activity on the bus')
    .option('--report-url <address>', 'report state and usage there; with --service-id');
  addActivityOptions(command);
  addSupervisorOptions(command);
  command.addHelpText('after', HELP);
  act(command, async (context, options, [script]) => {
    const given = { ...options, script, activityId: options.serviceId };
    const exeUnit = readExeUnitOptions(given, context.env);
    const { runExeUnit } = await import('../exe-unit/supervisor.ts');
    return await runExeUnit(exeUnit, exeUnitHost(context, options));
  });
}
