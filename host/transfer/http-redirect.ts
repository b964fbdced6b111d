/** Where a redirect leads, and to whom the credentials of a URL are told. */
import { HttpError } from './http-error.ts';

export const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
export const MAX_REDIRECTS = 10;

/**
 * The target of `location`, which may be relative.
 * @param shown The address that redirects, for messages.
 * @throws {HttpError} it leads nowhere, or away from http and https
 */
export function redirectTarget(from: URL, location: string | undefined, shown: string): URL {
  const target = location === undefined ? null : URL.parse(location, from.href);
  if (target === null) throw new HttpError(`${shown}: a redirect that leads nowhere`);
  // A relative one takes its base's user information along: it is there already, by its origin.
  if (target.protocol === 'http:' || target.protocol === 'https:') return target;
  throw new HttpError(`${shown}: a redirect to ${target.protocol}, which is neither http nor https`);
}

/**
 * The credentials for `url`, which a request to `start` was redirected to: those of `start` stay at its scheme, host and
 * port. A redirect that brings credentials of its own brings them for its own place.
 */
export function authorizationFor(url: URL, start: URL): string | undefined {
  return basic(url) ?? (url.origin === start.origin ? basic(start) : undefined);
}

/** A URL's user name and password as a header has them. */
export function basic({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  return `Basic ${Buffer.from(`${decode(username)}:${decode(password)}`).toString('base64')}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
