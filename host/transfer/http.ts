/**
 * Downloads over HTTP: what arrives is what the server announced, or an error. An attempt that breaks off is
 * continued where it stopped when the server proves that it is still the same file (exe-unit.md 6.6 for the retries).
 */
import { sleep } from '../lib/deadline.ts';
import { Fetching } from './fetching.ts';
import type { ConnectionSettings } from './http-connection.ts';
import { HttpError } from './http-error.ts';
import type { HttpTimeouts } from './http-request.ts';
import type { Beginning, Identity } from './identity.ts';
import { RETRY_DELAYS } from './retry.ts';

/** Where the bytes go. */
export interface Sink {
  /** A file begins anew: what was written counts no more. `identity` null: it could not be continued. */
  begin(identity: Identity | null): Promise<void>;
  /**
   * Takes pieces that belong together: its own until its promise resolves, and for ever if they are not in shared memory. Each
   * byte comes once, in any order, and several writes may be under way.
   */
  write(pieces: Uint8Array[], at: number): Promise<void>;
  /** All bytes before `end` were written. */
  advance(end: number): void;
}

/** How many connections there are, and what each does. */
export interface Lines {
  /** Connections at most. */
  connections: number;
  /** Bytes that a connection is given at a time at least. A file of less than two of these takes one connection. */
  segment: number;
  /** Milliseconds after which a first connection is helped that is not fast by then; 0: at once. */
  patience: number;
}

export interface DownloadOptions extends ConnectionSettings {
  signal: AbortSignal;
  timeouts?: Partial<HttpTimeouts>;
  /** Most bytes taken. */
  maxSize: number;
  /** What the sink has already. */
  beginning?: Beginning | null;
  /** Everything from one answer: no attempt is continued, no second connection helps; default false. */
  onePiece?: boolean;
  /** Default: fetching.ts; for tests and the bench. */
  lines?: Lines;
  /** Called when the size is known, before the first byte of an attempt, with the bytes that will come; may throw. */
  onSize?: (missing: number | null) => void | Promise<void>;
  /** Called after each write. */
  onProgress?: (done: number, total: number | null) => void;
  /** Called before a wait of `seconds`. */
  onRetry?: (seconds: number, error: Error) => void;
  sleep?: typeof sleep;
}

export interface Downloaded {
  /** Bytes. */
  size: number;
  /** Put together from several answers. */
  pieced: boolean;
}

/** An attempt that brought so many bytes has earned a full set of retries: large images come over poor lines. */
const EARNS_RETRIES = 16 * 1024 * 1024;

/**
 * Fetches `url` into `sink`.
 * @throws {HttpError} the last attempt's; the signal's reason; whatever sink and callbacks throw.
 */
export async function download(url: URL, sink: Sink, options: DownloadOptions): Promise<Downloaded> {
  const { signal, sleep: wait = sleep } = options;
  const fetching = new Fetching(url, sink, options);
  for (let retries = 0; ; ) {
    const before = fetching.received;
    try {
      return await fetching.attempt();
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof HttpError && error.retry)) throw error;
      if (fetching.received - before >= EARNS_RETRIES) retries = 0;
      const seconds = RETRY_DELAYS[retries++];
      if (seconds === undefined) throw error;
      options.onRetry?.(seconds, error);
      await wait(seconds * 1000, signal);
    }
  }
}
