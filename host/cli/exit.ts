/** Exit codes of ya-vm: docker's, and timeout(1)'s 124. */
import { constants } from 'node:os';
import type { CommandResult } from '../runtime/types.ts';

export const EXIT = {
  ok: 0,
  /** Of `doctor` and `self-test`: something that ya-vm needs is missing. Of `boot-test`: an image did not pass. */
  unhealthy: 1,
  /** Only `net ping`: nothing came back. */
  noAnswer: 1,
  /** `--timeout` passed. */
  timedOut: 124,
  /** ya-vm itself failed: bad options, no VM, the VM died. */
  failure: 125,
  /** The command is there but cannot be executed. */
  notExecutable: 126,
  /** The command was not found. */
  notFound: 127,
} as const;

/** Exit code that says "ended by this signal". */
export function signalExit(signal: number | NodeJS.Signals): number {
  return 128 + (typeof signal === 'number' ? signal : signalNumber(signal));
}

export function signalNumber(name: NodeJS.Signals): number {
  return constants.signals[name];
}

/** `SIGTERM` for 15; a number that has no name (real-time signals) as `signal 34`. */
export function signalName(number: number): string {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return found ? found[0] : `signal ${number}`;
}

/** Errnos of execve that mean that there is no such program; everything else means that it cannot be executed. */
const NOT_FOUND = new Set(['ENOENT']);

/**
 * Exit code for an error of ya-vm. A command that could not be started is told apart as a shell does: 127 not found,
 * 126 found but not executable (permission, format, interpreter, working directory); the rest is 125.
 */
export function exitCodeOf(error: unknown): number {
  for (let link = error, depth = 0; link instanceof Error && depth < 8; link = link.cause, depth++) {
    const { code, errno, syscall } = link as Error & { code?: unknown; errno?: unknown; syscall?: unknown };
    if (code !== 'YAVM_E_GUEST_SPAWN_FAILED') continue;
    // A missing working directory is ENOENT too, of chdir: the command itself may well exist.
    return NOT_FOUND.has(String(errno)) && syscall !== 'chdir' ? EXIT.notFound : EXIT.notExecutable;
  }
  return EXIT.failure;
}

/** One line about a command's end: `exit code 3`, `killed by SIGKILL (out of memory)`. */
export function describeEnd(result: Pick<CommandResult, 'exitCode' | 'signal' | 'outOfMemory'>): string {
  const end =
    result.signal === undefined ? `exit code ${result.exitCode}` : `killed by ${signalName(result.signal)}`;
  return result.outOfMemory ? `${end} (out of memory)` : end;
}
