/** The layers that a connection is made of: TCP, a proxy's tunnel, TLS. Each is ready, or gone, when its promise settles. */
import { once } from 'node:events';
import { request as beginRequest, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import {
  isIP,
  type LookupFunction,
  connect as openSocket,
  type Socket,
  type TcpNetConnectOpts,
} from 'node:net';
import type { Logger } from '../lib/logger.ts';
import { HttpError, statusError } from './http-error.ts';
import { bareHost } from './http-proxy.ts';

/** Read at once from a socket, bytes: fewer and larger writes to the disk. */
const READ_SIZE = 1024 * 1024;

/** Connects to a URL's host and port. */
export async function openTcp(url: URL, signal: AbortSignal, lookup?: LookupFunction): Promise<Socket> {
  const options: TcpNetConnectOpts & { highWaterMark: number } = {
    host: bareHost(url),
    port: portOf(url),
    lookup,
    noDelay: true,
    highWaterMark: READ_SIZE,
  };
  const socket = openSocket(options);
  return await ready(socket, 'connect', signal);
}

/** TLS over `socket`, which it takes over, with the certificate checked for the URL's host. */
export async function openTls(
  socket: Socket,
  url: URL,
  signal: AbortSignal,
  { ca, env = process.env, logger }: { ca?: string; env?: NodeJS.ProcessEnv; logger?: Logger },
): Promise<Socket> {
  try {
    // Most tasks' hosts never need either: they take megabytes.
    const { connect } = await import('node:tls');
    const { trustedContext } = await import('./http-certificates.ts');
    const trust = ca === undefined ? { secureContext: await trustedContext(env, logger) } : { ca };
    const host = bareHost(url).replace(/\.$/, '');
    const options = { socket, host, servername: isIP(host) ? '' : host, highWaterMark: READ_SIZE };
    signal.throwIfAborted();
    const secure = connect({ ...options, ...trust, ALPNProtocols: ['http/1.1'] });
    return await ready(secure, 'secureConnect', signal);
  } catch (error) {
    socket.destroy();
    throw error;
  }
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
