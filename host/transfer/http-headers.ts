/** What the headers of an answer say about its body. */
import type { IncomingHttpHeaders } from 'node:http';
import { HttpError } from './http-error.ts';

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
