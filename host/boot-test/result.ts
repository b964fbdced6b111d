/** What a boot test found out about one image, whatever prints it. */
import type { Phase } from '../runtime/types.ts';

/** `error`: ya-vm could not try it, which says nothing about the image. */
export type Outcome = 'passed' | 'failed' | 'error';

export interface BootTestResult {
  /** The image as it was named. */
  name: string;
  outcome: Outcome;
  accel: 'kvm' | 'tcg' | null;
  /** From the first look at the image to the VM's end. */
  milliseconds: number;
  phases: Phase[];
  /** What ran; null: no command could run, or none was meant to. */
  command: string[] | null;
  /** Its exit code; null: it was not started, or did not end in time. */
  exitCode: number | null;
  /** Each reason why it did not pass, in a line. */
  failures: string[];
  /** Ends of what the command wrote and of the serial console, see `KEPT`. */
  output: { stdout: string; stderr: string };
  console: string;
  /** Last lines of the console and of the output, fit to be shown; empty when it passed. */
  quoted: { console: string[]; output: string[] };
  /** Folder with all of it; null: nothing is kept. */
  kept: string | null;
}

/** Bytes of a stream that are kept, at least. */
export const KEPT = 256 * 1024;
/** Lines that a report quotes. */
export const QUOTED = 15;
