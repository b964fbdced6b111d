/** By what a file on a server is known again, so that parts of it from several answers fit together (RFC 9110, 13 and 14). */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { validatorOf } from './http-headers.ts';

export interface Identity {
  /** Bytes. */
  total: number;
  /** A strong ETag, or the date of the last change. */
  validator: string;
}

/** A file's beginning that is there, and the file that it is of. */
export interface Beginning {
  size: number;
  identity: Identity;
}

/** Characters; a longer one is not worth being kept. */
const MAX_VALIDATOR = 1024;

/** Of the file that an answer is about; null when nothing would prove that another answer is about the same. */
export function identityOf(headers: IncomingHttpHeaders, total: number | null): Identity | null {
  const validator = validatorOf(headers);
  if (total === null || validator === null || validator.length > MAX_VALIDATOR) return null;
  return { total, validator };
}

/** Asks for the bytes from `from` to before `until`, if the file is still the same. */
export function rangeHeaders(
  { total, validator }: Identity,
  from: number,
  until: number,
): OutgoingHttpHeaders {
  const last = until === total ? '' : until - 1;
  return { range: `bytes=${from}-${last}`, 'if-range': validator };
}

/** Whether the headers of a partial answer (206) promise just these bytes of just this file. */
export function provesRange(
  headers: IncomingHttpHeaders,
  { total, validator }: Identity,
  from: number,
  until: number,
): boolean {
  const range = `bytes ${from}-${until - 1}/${total}`;
  return headers['content-range'] === range && validatorOf(headers) === validator;
}
