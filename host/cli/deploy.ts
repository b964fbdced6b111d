/** `ya-vm deploy`: as the runtime of a stock exe-unit, prepares an activity. */
import type { Command } from 'commander';
import type { Act } from './commands.ts';
import { print } from './context.ts';
import { addSupervisorOptions } from './exe-unit-options.ts';
import { EXIT } from './exit.ts';
import { readManifest } from './images.ts';
import { usageError } from './options.ts';
import { addRuntimeOptions, providerAssets, readRuntimeOptions } from './runtime-options.ts';

const HELP = `
A stock exe-unit starts this, with the options before or after 'deploy'. The result is one line of JSON on standard
output; what was decided is in deployment.json in the work folder, for 'start'.`;

export function define(command: Command, act: Act): void {
  command.argument('[word...]', 'accepted');
  addRuntimeOptions(command);
  addSupervisorOptions(command);
  command.addHelpText('after', HELP);
  act(command, async (context, given) => {
    const options = readRuntimeOptions(given, context.env);
    if (options.packages.length === 0) throw usageError('-t, --task-package is missing');
    const { deploy } = await import('../runtime-api/deploy.ts');
    const { kernel } = await readManifest(providerAssets(context.env).manifest);
    const result = await deploy({ ...options, compressors: kernel.squashfs ?? undefined });
    await print(context, JSON.stringify(result));
    return EXIT.ok;
  });
}
