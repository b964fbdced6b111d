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

/** What OpenSSL and Node call a certificate that proves nothing. */
const CERTIFICATE_CODES =
  /^(CERT_|CRL_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERROR_IN_CERT_|INVALID_(CA|PURPOSE)$|HOSTNAME_MISMATCH$|PATH_LENGTH_|ERR_TLS_CERT_)/;

/** An error of Node's client, on the way to `shown`, as one of ours. What is one already, stays as it is. */
export function connectionError(cause: unknown, shown: string): YavmError {
  if (cause instanceof YavmError) return cause;
  const { code = '', message = String(cause), reason } = cause as NodeJS.ErrnoException & { reason?: string };
  if (CERTIFICATE_CODES.test(code)) {
    // Not kept as a cause: Node adds what to do with the `node` of the command line.
    const [problem] = message.split('; if the root CA');
    return new HttpError(`${shown}: the server's certificate is not accepted: ${problem}`, {
      hint: 'Accepted are certificates of the authorities that this host (SSL_CERT_FILE, SSL_CERT_DIR) and Node know.',
    });
  }
  if (/^ERR_SSL_|^EPROTO$/.test(code)) {
    // OpenSSL's own text names threads, functions and lines.
    const detail = reason ?? code.replace('ERR_SSL_', '').replaceAll('_', ' ').toLowerCase();
    return new HttpError(`${shown}: TLS fails: ${detail}`);
  }
  if (code.startsWith('HPE_'))
    return new HttpError(`${shown}: the answer is not HTTP: ${message}`, { cause });
  if (message === 'aborted') {
    return new HttpError(`${shown}: the connection ended before the body did`, { retry: true });
  }
  // With several addresses the error is an aggregate, whose own message is empty.
  return new HttpError(`${shown}: ${message || code}`, { cause, retry: PASSING.has(code) });
}

/** Statuses that a later request may not meet: besides 5xx, the two that say "later". */
const LATER = new Set([408, 429]);
/** Characters of what a server says about itself. */
const MAX_WORDS = 200;

/** @param words What the server says besides, already without secrets. */
export function statusError(
  status: number,
  reason: string | undefined,
  shown: string,
  words?: string,
): HttpError {
  const said = [printable(reason ?? ''), words ? `"${printable(words)}"` : ''].filter((part) => part !== '');
  const text = `${shown}: the server answers ${[status, said.join(': ')].join(' ').trimEnd()}`;
  return new HttpError(text, { retry: status >= 500 || LATER.has(status) });
}

/** One line that does nothing to a terminal, of {@link MAX_WORDS} characters at most. */
export function printable(text: string): string {
  const line = text
    .slice(0, 16 * MAX_WORDS)
    .replace(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim();
  const characters = [...line];
  return characters.length > MAX_WORDS ? `${characters.slice(0, MAX_WORDS).join('')}…` : line;
}
