/** One command tied to our own standard streams, until it ends, is left, or has to be killed. */
import type { Writable } from 'node:stream';
import type { RunningCommand } from '../attach/port.ts';
import { withDeadline } from '../lib/deadline.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { writeChunk } from '../lib/write.ts';
import type { CommandResult } from '../runtime/types.ts';
import type { Context, TerminalIn } from './context.ts';
import type { Interrupts } from './interrupts.ts';
import { copyOutput } from './output.ts';
import { enterRawMode, KeyScanner, onResize, type WindowSize } from './terminal.ts';

export interface SessionOptions {
  /** The command has a terminal, and ours is passed through raw. */
  tty: boolean;
  /** Keys that leave the session while the command goes on. */
  detachKeys?: readonly number[];
  /** The command may run this long, milliseconds. */
  timeout?: number;
  interrupts: Interrupts;
}

export type SessionEnd =
  | { kind: 'exited'; result: CommandResult }
  /** `timeout` passed and the command was killed. No result: not even that worked. */
  | { kind: 'timed-out'; result: CommandResult | null }
  /** Our own reader left (EPIPE), and the command was killed, as SIGPIPE would have. */
  | { kind: 'output-closed'; result: CommandResult | null }
  | { kind: 'detached' };

/** SIGKILL. */
const KILL = 9;
/** How long a killed command may take to be reported as ended, milliseconds, before its VM is ended instead. */
const KILL_TIME = 5000;

/**
 * Copies the streams both ways until the command has ended and all its output was written.
 * @throws {YavmError} YAVM_E_OUTPUT; Interrupted when a signal to ya-vm ends the session; whatever `command.result` rejects with.
 */
export async function runSession(
  command: RunningCommand,
  context: Context,
  options: SessionOptions,
): Promise<SessionEnd> {
  const { interrupts } = options;
  const left = new Latch<Leave>();
  const undo: (() => void)[] = [];
  try {
    interrupts.attach({ forward: (signal) => void command.signal(signal).catch(() => {}) });
    const closed = (error: Error | null) => left.set(error ?? 'output-closed');
    if (command.stdout) copyOutput(command.stdout, context.stdout, closed);
    if (command.stderr) copyOutput(command.stderr, context.stderr, closed);
    if (options.tty) undo.push(...connectTerminal(command, context));
    if (command.stdin) {
      undo.push(() => context.stdin.destroy());
      feed(context.stdin, command.stdin, options.detachKeys ?? [], () => left.set('detached'));
    }
    if (options.timeout !== undefined) {
      const timer = setTimeout(() => left.set('timed-out'), options.timeout);
      undo.push(() => clearTimeout(timer));
    }
    return await withDeadline(settle(command, left.promise), Number.POSITIVE_INFINITY, 'the command', {
      signal: interrupts.signal,
    });
  } finally {
    for (const step of undo) step();
  }
}

/** Why the session ends before the command does. An error: our output cannot be written. */
type Leave = 'timed-out' | 'output-closed' | 'detached' | Error;

async function settle(command: RunningCommand, left: Promise<Leave>): Promise<SessionEnd> {
  const first = await Promise.race([command.result, left]);
  if (typeof first !== 'string' && !(first instanceof Error)) return { kind: 'exited', result: first };
  if (first === 'detached') return { kind: 'detached' };
  const result = await kill(command);
  if (!(first instanceof Error)) return { kind: first, result };
  throw new YavmError('YAVM_E_OUTPUT', "the command's output cannot be written, and it was killed", {
    cause: first,
  });
}

/**
 * @returns null when the command's end is not reported in time: the caller ends the VM anyway. The time also bounds how
 * long what it wrote before may take to be written: a reader that does not read must not turn a limit into none.
 */
async function kill(command: RunningCommand): Promise<CommandResult | null> {
  const work = async () => {
    await command.signal(KILL, { tree: true });
    return await command.result;
  };
  return withDeadline(work, KILL_TIME, 'the killed command').catch(() => null);
}

/** Raw mode and window size. @returns what undoes them. */
function connectTerminal(command: RunningCommand, context: Context): (() => void)[] {
  const resize = ({ rows, columns }: WindowSize) => void command.resize(rows, columns).catch(() => {});
  return [enterRawMode(context.stdin), onResize(context.stdout, resize)];
}

/** Passes what is typed (or piped) on, at the command's pace; our end of file becomes the command's. */
async function feed(
  from: TerminalIn,
  to: Writable,
  detachKeys: readonly number[],
  onDetach: () => void,
): Promise<void> {
  const scanner = detachKeys.length > 0 ? new KeyScanner(detachKeys) : null;
  // A command that closed its stdin, or ended: there is nobody to feed.
  to.on('error', () => {});
  try {
    for await (const chunk of from as AsyncIterable<Uint8Array>) {
      const { pass, found } = scanner ? scanner.scan(chunk) : { pass: chunk, found: false };
      if (pass.byteLength > 0 && (await writeChunk(to, pass))) return;
      if (found) return onDetach();
    }
    to.end();
  } catch (error) {
    // Our own terminal went away (EIO), or the session ended and destroyed it. Only the first is an end of input.
    if (hasErrno(error, 'EIO')) to.end();
  }
}

/** A promise that anyone may settle; the first value stays. */
class Latch<T> {
  set: (value: T) => void = () => {};
  readonly promise = new Promise<T>((resolve) => {
    this.set = resolve;
  });
}
