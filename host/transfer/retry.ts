/** Which failures pass, and how often a transfer is tried again (exe-unit.md 6.6). */
import { sleep } from '../lib/deadline.ts';

/** Seconds before each further attempt. */
export const RETRY_DELAYS: readonly number[] = [2, 4];

/** An error that says of itself whether it may pass: of a connection, or a state that a server calls temporary. */
interface Passing {
  retry: boolean;
}

/** Codes of the bus whose cause may be gone soon: a node that restarts, a requestor that is slow. */
const PASSING_CODES: ReadonlySet<unknown> = new Set([
  'YAVM_E_GSB_TIMEOUT',
  'YAVM_E_GSB_CLOSED',
  'YAVM_E_GSB_NO_ENDPOINT',
]);

/** Whether another attempt may fare better. */
export function isPassing(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  const { retry, code } = error as Partial<Passing> & { code?: unknown };
  return retry ?? PASSING_CODES.has(code);
}

export interface RetryOptions {
  signal: AbortSignal;
  /** Called before a wait of `seconds`. */
  onRetry?: (seconds: number, error: Error) => void;
  sleep?: typeof sleep;
}

/** Calls `attempt` until it succeeds, fails for good, or has failed often enough. @throws its last error; the signal's reason */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  { signal, onRetry, sleep: wait = sleep }: RetryOptions,
): Promise<T> {
  for (const seconds of RETRY_DELAYS) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!isPassing(error)) throw error;
      onRetry?.(seconds, error);
      await wait(seconds * 1000, signal);
    }
  }
  return await attempt();
}
