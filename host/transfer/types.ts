/** What the parts of a transfer say to each other: its two ends, and what it tells while it runs. */

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

/** Bytes in pieces of any size; a piece is valid until the next is asked for. Leaving the iteration frees what is behind it. */
export type Bytes = AsyncIterable<Uint8Array>;

export interface Opened {
  /** Bytes that will come; null when not known. Fewer or more are an error of the source. */
  size: number | null;
  bytes: Bytes;
}

export interface TransferOptions {
  signal: AbortSignal;
}

/** Where a transfer reads from: a server, a requestor's gftp, the VM, a file. */
export interface TransferSource {
  /** For messages and logs: without credentials and queries. */
  readonly shown: string;
  /**
   * Begins at the first byte; called anew for each attempt. `bytes` rejects with the signal's reason when it fires, and with a
   * passing error (retry.ts) when another attempt may fare better.
   */
  open(options: TransferOptions): Promise<Opened>;
}

/** Where a transfer writes to. */
export interface TransferDestination {
  /** For messages and logs: without credentials and queries. */
  readonly shown: string;
  /**
   * Takes all bytes; everything is at its place when it resolves. When `bytes` or the writing fails, nothing half-written
   * stays under the final name, and it rejects with that error. Called anew for each attempt.
   */
  write(content: Opened, options: TransferOptions): Promise<void>;
}
