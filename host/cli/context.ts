/** What a command gets from `main`: streams, environment, log. Tests give their own. */
import type { Readable, Writable } from 'node:stream';
import type { Logger } from '../lib/logger.ts';
import { colourWanted, type Style, styleFor } from './style.ts';

export type TerminalIn = Readable & { isTTY?: boolean; fd?: number; setRawMode?(raw: boolean): unknown };
export type TerminalOut = Writable & { isTTY?: boolean; columns?: number; rows?: number };

export interface Context {
  stdin: TerminalIn;
  /** Results, and a command's own bytes; nothing else. */
  stdout: TerminalOut;
  /** Phases, warnings, errors; and a command's own bytes. */
  stderr: TerminalOut;
  env: Readonly<Record<string, string | undefined>>;
  log: Logger;
}

/** Colours for what goes to `stream`. */
export function styleOf(context: Pick<Context, 'env'>, stream: TerminalOut): Style {
  return styleFor(colourWanted(stream.isTTY === true, context.env));
}

/** Writes lines to standard output; resolves when they were taken. A reader that left (EPIPE) is no error of ours. */
export function print(context: Context, ...lines: string[]): Promise<void> {
  return writeAll(context.stdout, lines.map((line) => `${line}\n`).join(''));
}

export function printJson(context: Context, value: unknown): Promise<void> {
  return print(context, JSON.stringify(value, null, 2));
}

/** Writes text or bytes; resolves when the stream took them, or failed: a stream's errors are handled by who owns it. */
export function writeAll(stream: Writable, data: string | Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    stream.write(data, () => resolve());
  });
}

/** One line of ya-vm's own on standard error. In raw mode a terminal needs the carriage return; else it does no harm. */
export async function note(context: Context, text: string): Promise<void> {
  await writeAll(context.stderr, `${styleOf(context, context.stderr).yellow('ya-vm:')} ${text}\n`);
}
