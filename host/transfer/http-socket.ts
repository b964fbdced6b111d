/** The layers that a connection is made of: TCP, a proxy's tunnel, TLS. Each is ready, or gone, when its promise settles. */
import { once } from 'node:events';
import { request as beginRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import { isIP, type LookupFunction, connect as openSocket, type Socket } from 'node:net';
import type { Logger } from '../lib/logger.ts';
import { HttpError, statusError } from './http-error.ts';
import { bareHost } from './http-proxy.ts';
import type { Tap } from './http-tap.ts';

/** Read at once from a socket, bytes: fewer and larger writes to the disk. */
const READ_SIZE = 1024 * 1024;

interface SocketSettings {
  lookup?: LookupFunction;
  tap?: Tap;
}

interface TlsSettings {
  ca?: string;
  env?: NodeJS.ProcessEnv;
  logger?: Logger;
}

/** Connects to a URL's host and port. */
export async function openTcp(url: URL, signal: AbortSignal, settings: SocketSettings): Promise<Socket> {
  const socket = openSocket(tcpOptions(url, settings));
  settings.tap?.attach(socket);
  return await ready(socket, 'connect', signal);
}

/** Connects to a URL's host and port with TLS: in one socket, unlike {@link openTls}, so that it can have a tap. */
export async function openSecure(
  url: URL,
  signal: AbortSignal,
  settings: SocketSettings & TlsSettings,
): Promise<Socket> {
  const { connect } = await import('node:tls');
  const options = await tlsOptions(url, settings);
  signal.throwIfAborted();
  const socket = connect({ ...tcpOptions(url, settings), ...options });
  socket.setNoDelay(true);
  settings.tap?.attach(socket);
  return await ready(socket, 'secureConnect', signal);
}

/** TLS over `socket`, which it takes over, with the certificate checked for the URL's host. */
export async function openTls(
  socket: Socket,
  url: URL,
  signal: AbortSignal,
  settings: TlsSettings,
): Promise<Socket> {
  try {
    const { connect } = await import('node:tls');
    const options = await tlsOptions(url, settings);
    signal.throwIfAborted();
    return await ready(connect({ ...options, socket }), 'secureConnect', signal);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function tcpOptions(url: URL, { lookup, tap }: SocketSettings) {
  const [host, port] = [bareHost(url), portOf(url)];
  return { host, port, lookup, noDelay: true, highWaterMark: READ_SIZE, onread: tap?.onread };
}

async function tlsOptions(url: URL, { ca, env = process.env, logger }: TlsSettings) {
  // Most tasks' hosts never need it: it takes megabytes.
  const { trustedContext } = await import('./http-certificates.ts');
  const trust = ca === undefined ? { secureContext: await trustedContext(env, logger) } : { ca };
  const host = bareHost(url).replace(/\.$/, '');
  const servername = isIP(host) ? '' : host;
  return { ...trust, host, servername, highWaterMark: READ_SIZE, ALPNProtocols: ['http/1.1'] };
}

/**
 * Has the proxy at the end of `socket` connect it to the URL's host.
 * @param shown The proxy, for messages.
 * @throws {HttpError} it refuses
 */
export async function openTunnel(
  socket: Socket,
  url: URL,
  shown: string,
  headers: OutgoingHttpHeaders,
  signal: AbortSignal,
): Promise<void> {
  const target = `${url.hostname}:${portOf(url)}`;
  const request = beginRequest({
    method: 'CONNECT',
    path: target,
    headers: { host: target, ...headers },
    setHost: false,
    createConnection: () => socket,
  });
  request.on('error', () => {});
  request.end();
  try {
    const [answer, , early] = (await once(request, 'connect', { signal })) as [
      IncomingMessage,
      Socket,
      Buffer,
    ];
    const status = answer.statusCode ?? 0;
    if (status < 200 || status > 299)
      throw statusError(status, answer.statusMessage, `${shown}: CONNECT ${target}`);
    if (early.length > 0) throw new HttpError(`${shown}: CONNECT ${target}: bytes before any were asked for`);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function ready(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal,
): Promise<Socket> {
  // Stays: between two layers nobody else may be listening.
  socket.on('error', () => {});
  try {
    await once(socket, event, { signal });
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port);
  return url.protocol === 'https:' ? 443 : 80;
}
