/** `GSB_URL`. Facts: the spec's exe-unit.md, 1.1. */
import { YavmError } from '../lib/errors.ts';
import type { GsbAddress } from './types.ts';

/** Where upstream's programs look when the variable is not set. */
export const DEFAULT_GSB_URL = 'unix:/tmp/yagna.sock';
const DEFAULT_PORT = 7464;
const SCHEME = /^[a-z][a-z\d+.-]*:/i;

/**
 * Reads a bus's URL: `unix:/path` (percent-decoded), `tcp://host:port`, or `10.0.0.1:7464`; undefined is the default.
 * `localhost:7464` is refused as upstream does: there `localhost` is the scheme.
 * @throws {YavmError} YAVM_E_GSB_URL
 */
export function parseGsbUrl(text: string | undefined): GsbAddress {
  const given = text ?? DEFAULT_GSB_URL;
  const url = URL.parse(SCHEME.test(given) ? given : `tcp://${given}`);
  if (url?.protocol === 'unix:') return unixAddress(url, given);
  if (url?.protocol !== 'tcp:') throw urlError(given, 'it is neither unix: nor tcp:');
  if (url.hostname === '') throw urlError(given, 'it names no host');
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  return { kind: 'tcp', host, port: url.port === '' ? DEFAULT_PORT : Number(url.port) };
}

function unixAddress(url: URL, given: string): GsbAddress {
  if (url.hostname !== '') throw urlError(given, `it names the host ${url.hostname}`);
  if (!url.pathname.startsWith('/')) throw urlError(given, 'its path does not begin with /');
  try {
    const path = decodeURIComponent(url.pathname);
    if (path.includes('\0')) throw new Error('a NUL in the path');
    return { kind: 'unix', path };
  } catch (error) {
    throw urlError(given, 'its path cannot be decoded', error);
  }
}

/** As a URL; parseGsbUrl reads it back. */
export function formatGsbUrl(address: GsbAddress): string {
  if (address.kind === 'unix') return `unix:${encodeURI(address.path).replace(/[?#]/g, encodeURIComponent)}`;
  return `tcp://${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}

function urlError(given: string, why: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_GSB_URL', `'${given}' is not the URL of a bus: ${why}`, {
    cause,
    hint: 'GSB_URL is unix:/path/of/the.sock or tcp://host:port',
  });
}
