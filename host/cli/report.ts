/** What `run --json` and `--report` tell about a run, also about one that failed. */
import { writeFile } from 'node:fs/promises';
import { describeError, findYavmError, YavmError } from '../lib/errors.ts';
import type { CommandResult, Phase } from '../runtime/types.ts';

export interface RunReport {
  /** Exit code of ya-vm. */
  exitCode: number;
  vm: {
    id: string;
    accel: 'kvm' | 'tcg';
    start: 'template' | 'boot';
    memoryMiB: number;
    cpus: number;
    images: string[];
  } | null;
  command: string[];
  /** Milliseconds of each phase; `command` is the command's own time, from its start to its end. */
  phases: Phase[];
  /** How the command ended; null when it was not started, or its end is not known. */
  result: {
    exitCode: number;
    /** Number of the signal that ended it. */
    signal: number | null;
    outOfMemory: boolean;
    /** False: not all of the output that the guest announced did arrive. */
    complete: boolean;
    /** Bytes of output. */
    output: { stdout: number; stderr: number };
    /** Milliseconds. */
    cpu: { user: number; system: number };
    /** Bytes. */
    memoryPeak: number;
  } | null;
  /** Last usage vector of the activity, by counter; null: there was none. */
  usage: Record<string, number> | null;
  /** `--timeout` passed, and the command was killed. */
  timedOut: boolean;
  error: { code: string; message: string } | null;
}

export function reportResult(result: CommandResult): NonNullable<RunReport['result']> {
  return {
    exitCode: result.exitCode,
    signal: result.signal ?? null,
    outOfMemory: result.outOfMemory,
    complete: result.complete,
    output: { stdout: result.totals.stdout ?? 0, stderr: result.totals.stderr ?? 0 },
    cpu: result.cpu,
    memoryPeak: result.memoryPeak,
  };
}

export function reportError(error: unknown): NonNullable<RunReport['error']> {
  return { code: findYavmError(error)?.code ?? 'YAVM_E_INTERNAL', message: describeError(error) };
}

/** @throws {YavmError} YAVM_E_REPORT */
export async function writeReport(file: string, report: RunReport): Promise<void> {
  try {
    await writeFile(file, `${JSON.stringify(report)}\n`);
  } catch (cause) {
    throw new YavmError('YAVM_E_REPORT', `${file}: the command has ended, but its report cannot be written`, {
      cause,
      hint: 'Name a file in a folder where you may write.',
    });
  }
}
