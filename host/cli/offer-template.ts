/** `ya-vm offer-template`: what the provider publishes, as one line of JSON. With a known verdict nothing is booted. */
import type { Command } from 'commander';
import { providerGpu } from '../gpu/options.ts';
import { providerAccel } from '../provider/accelerator.ts';
import { offerTemplate } from '../provider/offer.ts';
import type { Act } from './commands.ts';
import { print } from './context.ts';
import { addSupervisorOptions } from './exe-unit-options.ts';
import { EXIT } from './exit.ts';
import { knownVerdict, makeActivityTemplate, runSelfTest } from './provider-test.ts';
import { addRuntimeOptions } from './runtime-options.ts';

const HELP = `
Capabilities are those that the self-test has proved; its verdict is kept until the host boots again, or QEMU or the
kernel change. 'ya-vm test' finds it out anew.`;

export function define(command: Command, act: Act): void {
  command.argument('[word...]', 'accepted');
  addRuntimeOptions(command);
  addSupervisorOptions(command);
  command.addHelpText('after', HELP);
  act(command, async (context, given) => {
    const accel = providerAccel(given.accel as string | undefined, context.env);
    const gpu = providerGpu(given, context.env);
    const say = (line: string) => context.log.info(line);
    const verdict =
      (await knownVerdict(context, accel, gpu)) ?? (await runSelfTest(context, accel, say, gpu));
    await makeActivityTemplate(context, accel, { say, insists: false, gpu });
    await print(context, JSON.stringify(offerTemplate(verdict)));
    return EXIT.ok;
  });
}
