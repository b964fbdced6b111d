/** `ya-vm completion`: scripts that make a shell complete our commands and options. */
import type { Command } from 'commander';
import type { Act } from './commands.ts';
import { bashScript } from './completion-bash.ts';
import { fishScript } from './completion-fish.ts';
import { type CommandNode, commandTree } from './completion-tree.ts';
import { zshScript } from './completion-zsh.ts';
import { writeAll } from './context.ts';
import { EXIT } from './exit.ts';
import { parseChoice } from './options.ts';

const HELP = `
Examples:
  source <(ya-vm completion bash)
  ya-vm completion zsh > ~/.zfunc/_ya-vm        with fpath+=~/.zfunc before compinit
  ya-vm completion fish > ~/.config/fish/completions/ya-vm.fish`;

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

const SCRIPTS: Readonly<Record<Shell, (tree: CommandNode) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

export function define(command: Command, act: Act): void {
  command.argument('<shell>', 'bash, zsh or fish').addHelpText('after', HELP);
  act(command, async (context, _options, [shell]) => {
    const script = SCRIPTS[parseChoice(shell as string, SHELLS, 'shell that has completions')];
    await writeAll(context.stdout, script(await commandTree()));
    return EXIT.ok;
  });
}
