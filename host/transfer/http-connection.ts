/** A connection for one request: to the server or through a proxy, with TLS where the URL says so. */
import type { OutgoingHttpHeaders } from 'node:http';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import type { Logger } from '../lib/logger.ts';
import { connectionError, HttpError } from './http-error.ts';
import { type AddressPolicy, checkAddress, checkedLookup, policyFrom } from './http-policy.ts';
import { bareHost, proxyFor } from './http-proxy.ts';
import { basic } from './http-redirect.ts';
import { openSecure, openTcp, openTls, openTunnel } from './http-socket.ts';
import type { Tap } from './http-tap.ts';
import { showUrl } from './location.ts';

export interface ConnectionSettings {
  /** Certificates to trust instead of Node's and the host's, PEM; for tests. */
  ca?: string;
  /** Proxies, certificates and the policy are read here; default the process's. */
  env?: NodeJS.ProcessEnv;
  /** Where the URL may lead; default by `env`. Null: anywhere, for URLs of this host's own user. */
  policy?: AddressPolicy | null;
  /** Instead of the system's; for tests. */
  lookup?: LookupFunction;
  logger?: Logger;
  /** Gets the connection, when there is no proxy on its way. */
  tap?: Tap;
}

export interface Connection {
  socket: Socket;
  /** What the request line holds: through a proxy without a tunnel, the whole URL. */
  path: string;
  /** For the proxy. */
  headers: OutgoingHttpHeaders;
}

/**
 * Opens the connection that a request to `url` goes over, ready for the first byte of the request.
 * @param milliseconds For look-up, connection, proxy and TLS together.
 * @throws {YavmError} YAVM_E_HTTP, YAVM_E_URL_REFUSED, YAVM_E_PROXY; the signal's reason
 */
export async function connect(
  url: URL,
  milliseconds: number,
  signal: AbortSignal,
  settings: ConnectionSettings,
): Promise<Connection> {
  signal.throwIfAborted();
  const shown = showUrl(url);
  const late = new AbortController();
  const timer = setTimeout(() => {
    late.abort(new HttpError(`${shown}: no connection within ${milliseconds / 1000} s`, { retry: true }));
  }, milliseconds);
  try {
    return await establish(url, shown, AbortSignal.any([signal, late.signal]), settings);
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(late.signal.aborted ? late.signal.reason : error, shown);
  } finally {
    clearTimeout(timer);
  }
}

async function establish(
  url: URL,
  shown: string,
  signal: AbortSignal,
  settings: ConnectionSettings,
): Promise<Connection> {
  const env = settings.env ?? process.env;
  const policy = settings.policy === undefined ? policyFrom(env) : settings.policy;
  // Sockets ask no look-up about what is an address already.
  if (policy && isIP(bareHost(url))) checkAddress(bareHost(url), policy, shown);
  const path = url.pathname + url.search;
  const proxy = proxyFor(url, env);
  if (proxy !== null) return await establishByProxy(url, proxy, path, signal, settings);
  const lookup = policy ? checkedLookup(policy, shown, settings.lookup) : settings.lookup;
  const open = url.protocol === 'https:' ? openSecure : openTcp;
  return { socket: await open(url, signal, { ...settings, lookup }), path, headers: {} };
}

/** The proxy looks the name up: what it finds cannot be checked here. */
async function establishByProxy(
  url: URL,
  proxy: URL,
  path: string,
  signal: AbortSignal,
  settings: ConnectionSettings,
): Promise<Connection> {
  const authorization = basic(proxy);
  const headers = authorization === undefined ? {} : { 'proxy-authorization': authorization };
  const secure = url.protocol === 'https:';
  // Whoever looks after it must know which of the two did not answer.
  const shown = `${showUrl(url)}: the proxy ${proxy.protocol}//${proxy.host}`;
  let socket: Socket;
  try {
    socket = await openTcp(proxy, signal, { lookup: settings.lookup });
    if (proxy.protocol === 'https:') socket = await openTls(socket, proxy, signal, settings);
    if (secure) await openTunnel(socket, url, shown, headers, signal);
  } catch (error) {
    throw connectionError(error, shown);
  }
  if (secure) return { socket: await openTls(socket, url, signal, settings), path, headers: {} };
  return { socket, path: `${url.origin}${path}`, headers };
}
