/** Waits that end: each has a deadline or a signal, and leaves no timer or listener behind. */
import { YavmError } from './errors.ts';

export interface DeadlineOptions {
  /** Ends the wait early with the signal's reason. */
  signal?: AbortSignal;
  /** Added to the timeout error: what the reader can do. */
  hint?: string;
}

/** Largest delay that Node's timers take, milliseconds; longer ones fire at once. */
const MAX_TIMER = 2 ** 31 - 1;

/**
 * Waits for `work` at most `milliseconds`; `Infinity` means as long as it takes (the signal still counts).
 *
 * A function is called with an AbortSignal that fires when the wait ends for any other reason than its own result, so
 * that it can stop what it began. What a late `work` does afterwards is ignored, its rejection too.
 * @param what Named in the error: "no answer of <what> within 5 s".
 * @throws {YavmError} YAVM_E_TIMEOUT at the deadline; the signal's reason when that fired; whatever `work` throws.
 */
export async function withDeadline<T>(
  work: Promise<T> | ((signal: AbortSignal) => Promise<T>),
  milliseconds: number,
  what: string,
  options: DeadlineOptions = {},
): Promise<T> {
  const { signal } = options;
  signal?.throwIfAborted();
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    if (!Number.isFinite(milliseconds)) return;
    const expire = () => reject(timeoutError(what, milliseconds, options.hint));
    timer = setTimeout(expire, Math.min(milliseconds, MAX_TIMER));
  });
  try {
    const running = typeof work === 'function' ? work(abort.signal) : work;
    // The race attaches a handler to both, so neither's late rejection is "unhandled".
    return await Promise.race([running, interrupted]);
  } catch (error) {
    abort.abort(error);
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** The error of a wait for `what` that ended at its deadline. */
export function timeoutError(what: string, milliseconds: number, hint?: string): YavmError {
  return new YavmError('YAVM_E_TIMEOUT', `no answer of ${what} within ${formatWait(milliseconds)}`, { hint });
}

function formatWait(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds} ms` : `${Number((milliseconds / 1000).toFixed(1))} s`;
}

/** Sleeps. @throws the signal's reason when it fires first. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
