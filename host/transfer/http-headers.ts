/** What the headers of an answer say about its body. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { HttpError, printable } from './http-error.ts';

/** Asks for a file as it is: its hash and its size are those of the file. */
export const FILE_HEADERS: OutgoingHttpHeaders = {
  'user-agent': 'ya-vm',
  accept: '*/*',
  'accept-encoding': 'identity',
};

/** @throws {HttpError} the body is packed, which nobody asked for */
export function checkEncoding(headers: IncomingHttpHeaders, shown: string): void {
  const encoding = headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() === 'identity') return;
  throw new HttpError(
    `${shown}: the server sends the file as ${JSON.stringify(printable(encoding))}, unasked`,
  );
}

/** Bytes of the body; null when not said. @throws {HttpError} a number it is not */
export function contentLength(headers: IncomingHttpHeaders, shown: string): number | null {
  const text = headers['content-length'];
  if (text === undefined) return null;
  const length = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(length)) throw new HttpError(`${shown}: a Content-Length that is no number`);
  return length;
}

/** What `If-Range` takes: a strong ETag, else the date. Weak ones promise nothing about bytes. */
export function validatorOf(headers: IncomingHttpHeaders): string | null {
  const { etag } = headers;
  if (etag !== undefined) return /^"[\x21\x23-\x7e]*"$/.test(etag) ? etag : null;
  return headers['last-modified'] ?? null;
}
