/** `ya-vm test`: the self-test. A provider runs it when it starts, and does not start when it fails. */
import type { Command } from 'commander';
import { providerGpu } from '../gpu/options.ts';
import { providerAccel } from '../provider/accelerator.ts';
import type { Act } from './commands.ts';
import { print, printJson } from './context.ts';
import { addSupervisorOptions } from './exe-unit-options.ts';
import { EXIT } from './exit.ts';
import { makeActivityTemplate, runSelfTest } from './provider-test.ts';
import { addRuntimeOptions } from './runtime-options.ts';

export function define(command: Command, act: Act): void {
  command.argument('[word...]', 'accepted').option('--json', 'print what was found out as an object');
  addRuntimeOptions(command);
  addSupervisorOptions(command);
  command.addHelpText('after', '\nExit code 0 when VMs can be sold from this host, else 1.');
  act(command, async (context, given) => {
    const accel = providerAccel(given.accel as string | undefined, context.env);
    const say = given.json ? () => {} : (line: string) => void print(context, line);
    const gpu = providerGpu(given, context.env);
    const verdict = await runSelfTest(context, accel, say, gpu);
    await makeActivityTemplate(context, accel, { say, insists: true, gpu });
    if (given.json) await printJson(context, verdict);
    else await print(context, `passed: ${verdict.capabilities.join(', ')}`);
    return EXIT.ok;
  });
}
