/** The commands as data, read off their own definitions: what completions and man pages are made from. */
import { Command, type Option } from 'commander';
import { LOG_LEVELS } from '../lib/logger.ts';
import { COMMANDS, type CommandRow } from './commands.ts';
import { addLogOptions } from './program.ts';

export interface OptionNode {
  /** `-m`, and `--memory`; either may be missing. */
  short: string | null;
  long: string | null;
  /** As the help shows it: `-m, --memory <size>`. */
  flags: string;
  description: string;
  /** What its value is; null: it has none. */
  value: ValueKind | null;
}

/** `text`: whatever. */
export type ValueKind = 'file' | 'folder' | 'text' | { words: readonly string[] };

export interface CommandNode {
  /** Without the program's: `[]`, `['run']`, `['net', 'peers']`. */
  path: string[];
  summary: string;
  /** As the help shows it: `[options] [--] [command…]`. */
  usage: string;
  options: OptionNode[];
  arguments: { name: string; description: string }[];
  /** What arguments may be; empty: whatever. */
  words: readonly string[];
  /** What the help says behind the options. */
  epilogue: string;
  commands: CommandNode[];
}

/** Loads every command of the table. */
export async function commandTree(table: readonly CommandRow[] = COMMANDS): Promise<CommandNode> {
  const program = addHelp(new Command('ya-vm'));
  addLogOptions(program);
  const commands: CommandNode[] = [];
  for (const { name, summary, load, words } of table) {
    const command = new Command(name).description(summary);
    await (await load()).define(command, () => {});
    addLogOptions(command);
    commands.push({ ...nodeOf(command, []), words: (await words?.()) ?? [] });
  }
  const usage = '[--log-level LEVEL] COMMAND …';
  return { ...nodeOf(program, []), path: [], summary: SUMMARY, usage, commands };
}

const SUMMARY = 'run commands in virtual machines, and make and test what they boot';

function nodeOf(command: Command, before: readonly string[]): CommandNode {
  const path = [...before, command.name()];
  const help = addHelp(command).createHelp();
  return {
    path,
    summary: command.description(),
    usage: command.usage(),
    options: help.visibleOptions(command).map((option) => optionOf(option, help.optionDescription(option))),
    arguments: command.registeredArguments.map((each) => ({
      name: each.name(),
      description: each.description,
    })),
    words: [],
    epilogue: epilogueOf(command),
    commands: command.commands.map((each) => nodeOf(each, path)),
  };
}

function addHelp(command: Command): Command {
  return command.helpCommand(false).helpOption('-h, --help', 'display help for command');
}

/** Commander keeps no such text: it is what a help has more than its information. */
function epilogueOf(command: Command): string {
  let text = '';
  const append = (piece: string) => {
    text += piece;
  };
  command.configureOutput({ writeOut: append });
  command.outputHelp();
  return text.slice(command.helpInformation().length).trim();
}

/** `description`: with the default. */
function optionOf({ short, long, flags, required, optional }: Option, description: string): OptionNode {
  const value = required || optional ? kindOf(flags) : null;
  return { short: short ?? null, long: long ?? null, flags, description, value };
}

/** By the name that the help gives it: `<file>`, `<auto|kvm|tcg>`. */
function kindOf(flags: string): ValueKind {
  const [, name = ''] = flags.match(/[<[]([^>]*?)\.{0,3}[>\]]$/) ?? [];
  if (name === 'file' || name === 'folder') return name;
  if (name === 'level') return { words: LOG_LEVELS };
  return /^[a-z0-9-]+(\|[a-z0-9-]+)+$/.test(name) ? { words: name.split('|') } : 'text';
}

/** The node and all beneath it, each before its own. */
export function allNodes(node: CommandNode): CommandNode[] {
  return [node, ...node.commands.flatMap(allNodes)];
}

/** Its spellings. */
export function namesOf({ short, long }: OptionNode): string[] {
  return [short, long].filter((name) => name !== null);
}
