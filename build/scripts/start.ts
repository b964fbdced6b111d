/** Node as the launcher and the single program start it, and what of their scripts is compiled beforehand. */
import { COMMANDS } from '../../host/cli/commands.ts';
import { buildCodeCache } from './code-cache.ts';

/**
 * `--max-semi-space-size=1` (MiB): buffers of output that passed are garbage that V8 looks for as rarely as its young
 * generation is large. Measured while 1 GB passes to a slow reader: 46 MB of private memory instead of 70.
 */
export const NODE_OPTIONS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=1'];

/** The way of every command line to its command. The last ones end with an error, since there is neither QEMU nor a kernel. */
const START_COMMANDS = [
  ['--help'],
  ...COMMANDS.map(({ name }) => [name, '--help']),
  ['version'],
  ['offer-template'],
  ['run', '--', 'true'],
];

/** Makes V8's code of the `scripts` in a folder, in another one. @throws when it cannot be made */
export async function compileScripts(scripts: string, output: string, work: string): Promise<void> {
  const options = NODE_OPTIONS;
  const commands = START_COMMANDS;
  await buildCodeCache({ node: process.execPath, options, scripts, entry: 'main', commands, work, output });
}
