/** What a transfer tells while it runs, and what may be asked of that. */

/** `unit` is `Bytes`; total null when not known. */
export interface ProgressReport {
  message?: string;
  done: number;
  total: number | null;
  unit?: string;
}

/** A command's `progress` (exe-unit.md 5.1). */
export interface ProgressOptions {
  /** Milliseconds between two reports at least; default 1000. */
  updateInterval?: number;
  /** Bytes between two reports at least; default 0. */
  updateStep?: number;
}
