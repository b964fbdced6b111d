/** Why an HTTP exchange failed, and whether another attempt may fare better. */
import { YavmError, type YavmErrorOptions } from '../lib/errors.ts';

export class HttpError extends YavmError {
  override name = 'HttpError';
  /** A failure of the moment: of the connection, or one that the server calls so. */
  readonly retry: boolean;

  constructor(message: string, options: YavmErrorOptions & { retry?: boolean } = {}) {
    super('YAVM_E_HTTP', `HTTP error: ${message}`, options);
    this.retry = options.retry ?? false;
  }
}

/** System errors of a connection that pass. A name that does not exist, or a certificate that is wrong, stays so. */
const PASSING = new Set([
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ETIMEDOUT',
]);

/** An error of Node's client, on the way to `shown`, as one of ours. */
export function connectionError(cause: unknown, shown: string): HttpError {
  if (cause instanceof HttpError) return cause;
  const { code = '', message = String(cause) } = cause as NodeJS.ErrnoException;
  // With several addresses the error is an aggregate, whose own message is empty.
  return new HttpError(`${shown}: ${message || code}`, { cause, retry: PASSING.has(code) });
}

/** Statuses that a later request may not meet: besides 5xx, the two that say "later". */
const LATER = new Set([408, 429]);

export function statusError(status: number, reason: string | undefined, shown: string): HttpError {
  const text = `${shown}: the server answers ${status} ${reason ?? ''}`.trimEnd();
  return new HttpError(text, { retry: status >= 500 || LATER.has(status) });
}
