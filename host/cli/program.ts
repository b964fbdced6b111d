/** The command line as a whole: finds the command, parses, runs it, and turns what it throws into a line and a code. */
import { Command, CommanderError } from 'commander';
import { isYavmError, type YavmError } from '../lib/errors.ts';
import { createLogger, isLogLevel, LOG_LEVELS, type LogLevel } from '../lib/logger.ts';
import { type Act, COMMANDS, type CommandRow } from './commands.ts';
import { type Context, writeAll } from './context.ts';
import { printError } from './error-line.ts';
import { EXIT, exitCodeOf } from './exit.ts';
import { Interrupted } from './interrupts.ts';
import { nameFirst, wantedCommand } from './leading.ts';
import { usageError } from './options.ts';

/** A context before options are read: its log does not exist yet. */
export type Streams = Omit<Context, 'log'>;

/**
 * Runs one command line (without node and script).
 * @returns the exit code. Never rejects: what a command throws is printed.
 */
export async function runProgram(
  words: readonly string[],
  streams: Streams,
  table: readonly CommandRow[] = COMMANDS,
): Promise<number> {
  const row = table.find(({ name }) => name === wantedCommand(words, table));
  const state: State = { code: EXIT.ok, context: null, level: 'warn', command: row?.name ?? '' };
  try {
    const program = await buildProgram(row, streams, table, state);
    state.command = commandPath(program, words);
    await program.parseAsync(nameFirst(words, table), { from: 'user' });
    return state.code;
  } catch (error) {
    return await report(error, streams, state, row);
  } finally {
    await state.context?.log.close();
  }
}

interface State {
  code: number;
  context: Context | null;
  level: LogLevel;
  /** Whose help is pointed to: `run`, `net peers`; empty: ya-vm's own. */
  command: string;
}

/** The command and subcommand that the words name, as far as there are such. */
function commandPath(program: Command, words: readonly string[]): string {
  const path: string[] = [];
  let at = program;
  for (const word of words) {
    if (word === '--') break;
    const next = at.commands.find((command) => command.name() === word);
    if (!next) continue;
    path.push(word);
    at = next;
  }
  return path.join(' ');
}

async function buildProgram(
  row: CommandRow | undefined,
  streams: Streams,
  table: readonly CommandRow[],
  state: State,
): Promise<Command> {
  const program = new Command('ya-vm')
    .description('Runs commands in virtual machines: boots in seconds, returns all of their output.')
    .usage('[--log-level LEVEL] COMMAND …')
    .enablePositionalOptions()
    .exitOverride()
    .helpCommand('help [command]', 'show the help of a command')
    .configureOutput({
      writeOut: (text) => streams.stdout.write(text),
      writeErr: (text) => streams.stderr.write(text),
      // Errors of commander are thrown too (exitOverride), and printed in one place: `report`.
      outputError: () => {},
      getOutHelpWidth: () => streams.stdout.columns ?? 80,
      getOutHasColors: () => false,
    });
  addLogOptions(program);
  program.addHelpText('after', PROGRAM_HELP);

  const act: Act = (command, handler) => {
    command.action(async () => {
      const options = command.optsWithGlobals();
      state.context = openContext(streams, options, state, row);
      state.code = await handler(state.context, options, command.processedArgs);
    });
  };
  for (const each of table) {
    const command = program.command(each.name).description(each.summary).helpCommand(false);
    if (each !== row) continue;
    await (await each.load()).define(command, act);
    addLogOptions(command);
  }
  return program;
}

/** On the program and on each command: people write them in both places. */
export function addLogOptions(command: Command): void {
  command
    .option(
      '--log-level <level>',
      `what ya-vm logs: ${LOG_LEVELS.join(', ')} (default: warn; run and shell: silent)`,
    )
    .option(
      '--log-file <file>',
      'append the log to this file, as JSON lines, instead of standard error (default level: info)',
    );
}

function openContext(
  streams: Streams,
  options: Record<string, unknown>,
  state: State,
  row: CommandRow | undefined,
): Context {
  const file = options.logFile as string | undefined;
  const level = (options.logLevel as string | undefined) ?? defaultLevel(file, row);
  if (!isLogLevel(level)) {
    throw usageError(`--log-level: '${level}' is no level`, `Choose one of: ${LOG_LEVELS.join(', ')}.`);
  }
  state.level = level;
  const { stdout, stderr, env } = streams;
  return {
    get stdin() {
      return streams.stdin;
    },
    ...{ stdout, stderr, env },
    log: createLogger({ level, file }),
  };
}

function defaultLevel(file: string | undefined, row: CommandRow | undefined): LogLevel {
  if (file !== undefined) return 'info';
  return row?.passesOutput ? 'silent' : 'warn';
}

const PROGRAM_HELP = `
Exit codes: the command's own for run and shell (128 + n after signal n); 124 --timeout passed;
125 ya-vm failed; 126 command not executable; 127 command not found.

Errors end with a code: 'ya-vm explain CODE' says what it means, and what helps.

Examples:
  ya-vm run -- uname -a                      a command in the demo image
  ya-vm run --image task.gvmi -- ./job       one of an image of yours
  ya-vm shell --image task.gvmi              look around in it
  ya-vm doctor                               what is missing on this host`;

/** @returns the exit code: of a failure `failure`, of a wrong command line `misuse`, when the command has one of its own. */
async function report(
  error: unknown,
  streams: Streams,
  { level, command }: State,
  row: CommandRow | undefined,
): Promise<number> {
  const failure = row?.failure;
  // Help: asked for, or shown because no command was given.
  if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok;
  if (error instanceof CommanderError && error.code === 'commander.help') return failure ?? EXIT.failure;
  if (error instanceof Interrupted) {
    await writeAll(streams.stderr, `ya-vm: ${error.message}\n`);
    return error.exitCode;
  }
  const ours = error instanceof CommanderError ? fromCommander(error, command) : error;
  await printError(ours, streams, level === 'debug' || level === 'trace');
  if (row?.misuse !== undefined && isYavmError(ours, 'YAVM_E_USAGE')) return row.misuse;
  return failure ?? exitCodeOf(ours);
}

/** Commander's text without its "error: ", with our code. What it guesses on a second line is a hint, as is the help. */
function fromCommander(error: CommanderError, command: string): YavmError {
  const [message = '', guess] = error.message.replace(/^error: /, '').split('\n');
  const help = command
    ? `'ya-vm ${command} --help' shows what it takes.`
    : "'ya-vm --help' shows the commands.";
  return usageError(message, guess ? `${guess.replace(/^\(|\)$/g, '')} ${help}` : help);
}
