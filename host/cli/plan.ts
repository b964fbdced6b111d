/** What a `run` starts: the image's configuration and the command line together, by docker's rules. Pure. */
import type { CommandSpec } from '../runtime/types.ts';
import { mergeEnv, type Rlimit, usageError } from './options.ts';

/** The part of an image's configuration that decides about a command. */
export interface ImageDefaults {
  env: readonly string[];
  entrypoint: readonly string[];
  cmd: readonly string[];
  workingDir?: string;
  user?: string;
}

/** What the command line says about the command. */
export interface CommandOptions {
  /** Words after the options; empty: the image's Cmd. */
  command: readonly string[];
  /** Replaces Entrypoint, and drops Cmd; `''` clears it. */
  entrypoint?: string;
  env: readonly string[];
  cwd?: string;
  user?: string;
  rlimits: readonly Rlimit[];
  stdin: boolean;
  tty?: { rows: number; columns: number };
  /** TERM of the terminal, when there is one. */
  term?: string;
}

/**
 * argv by docker's rules:
 *
 * | --entrypoint | words given | argv               |
 * |--------------|-------------|--------------------|
 * | no           | no          | Entrypoint + Cmd   |
 * | no           | yes         | Entrypoint + words |
 * | E            | no          | E                  |
 * | E            | yes         | E + words          |
 * | '' (clear)   | yes         | words              |
 *
 * @throws {YavmError} YAVM_E_USAGE when nothing is left to run.
 */
export function planArgv(image: ImageDefaults, words: readonly string[], entrypoint?: string): string[] {
  const replaced = entrypoint !== undefined;
  const head = replaced ? [entrypoint].filter((word) => word !== '') : image.entrypoint;
  const tail = words.length > 0 || replaced ? words : image.cmd;
  const argv = [...head, ...tail];
  if (argv.length === 0) {
    throw usageError(
      'no command: the image has neither Entrypoint nor Cmd',
      'Add one: ya-vm run … -- /bin/sh',
    );
  }
  if (argv[0] === '') throw usageError('the command is an empty word');
  return argv;
}

/** The whole command. The command line's choices come before the image's, the image's before the agent's defaults. */
export function planCommand(image: ImageDefaults, options: CommandOptions): CommandSpec {
  const terminal = options.tty ? [`TERM=${options.term || 'xterm'}`] : [];
  const spec: CommandSpec = {
    argv: planArgv(image, options.command, options.entrypoint),
    env: mergeEnv(terminal, image.env, options.env),
    stdin: options.stdin || options.tty !== undefined,
    cwd: options.cwd ?? (image.workingDir?.trim() || '/'),
  };
  const user = options.user ?? image.user;
  if (user) spec.user = user;
  if (options.tty) spec.tty = options.tty;
  if (options.rlimits.length > 0) {
    spec.rlimits = Object.fromEntries(options.rlimits.map(({ name, soft, hard }) => [name, [soft, hard]]));
  }
  return spec;
}
