/** An HTTP server on the loopback, as well or as badly behaved as a test wants it. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';

interface Owner {
  teardown(fn: () => unknown): unknown;
}

/** Answers the request number `index` (from 0) of this server. */
export type Handler = (request: IncomingMessage, response: ServerResponse, index: number) => void;

export interface TestServer {
  /** `http://127.0.0.1:<port>`, without a slash at the end. */
  origin: string;
  /** All requests so far. */
  requests: IncomingMessage[];
  server: Server;
  /** Ends it with all of its connections; also done by the test's end. */
  close(): Promise<void>;
}

/** Starts a server; with `tls`, an https one. */
export async function startServer(
  owner: Owner,
  handler: Handler,
  tls?: { key: string; cert: string },
): Promise<TestServer> {
  const requests: IncomingMessage[] = [];
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    requests.push(request);
    handler(request, response, requests.length - 1);
  };
  const server: Server = tls ? createTlsServer(tls, onRequest) : createServer(onRequest);
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    // A client that goes away is what many tests are about.
    socket.on('error', () => {}).once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async () => {
    const closed = server.listening ? once(server, 'close') : null;
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  owner.teardown(close);
  const { port } = server.address() as AddressInfo;
  return { origin: `${tls ? 'https' : 'http'}://127.0.0.1:${port}`, requests, server, close };
}

/** Starts a server that speaks as `handler` does, which is not always HTTP. Returns its origin. */
export async function startRawServer(owner: Owner, handler: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    handler(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  owner.teardown(async () => {
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export interface ServeOptions {
  etag?: string;
  lastModified?: string;
  /** Answer `Range` when `If-Range` fits. */
  ranges?: boolean;
  /** Bytes of the answer after which the connection ends in order. */
  cutAfter?: number;
  /** Bytes of the answer after which the connection is reset; the client may see fewer. */
  resetAfter?: number;
  /** Bytes of the answer after which nothing more comes. */
  stallAfter?: number;
  /** Instead of the true Content-Length; null for none (chunked). */
  length?: number | null;
}

/** Sends `content` as a file server does, until the misbehaviour that was asked for. */
export function serve(
  request: IncomingMessage,
  response: ServerResponse,
  content: Uint8Array,
  options: ServeOptions = {},
): void {
  const { etag, lastModified, ranges = false, length } = options;
  const range = ranges ? rangeOf(request, etag ?? lastModified, content.length) : null;
  const body = range ? content.subarray(range.from, range.until) : content;
  if (etag) response.setHeader('etag', etag);
  if (lastModified) response.setHeader('last-modified', lastModified);
  if (range) {
    response.statusCode = 206;
    response.setHeader('content-range', `bytes ${range.from}-${range.until - 1}/${content.length}`);
  }
  // Without a length Node sends chunks, once the headers are out.
  if (length === null) response.flushHeaders();
  else response.setHeader('content-length', length ?? body.length);
  const most = options.cutAfter ?? options.resetAfter ?? options.stallAfter;
  if (most === undefined) {
    response.end(body);
    return;
  }
  response.write(body.subarray(0, most), () => {
    if (options.cutAfter !== undefined) response.socket?.destroySoon();
    if (options.resetAfter !== undefined) response.socket?.resetAndDestroy();
  });
}

function rangeOf(
  request: IncomingMessage,
  validator: string | undefined,
  total: number,
): { from: number; until: number } | null {
  const [, from, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  if (from === undefined || request.headers['if-range'] !== validator) return null;
  return { from: Number(from), until: last ? Number(last) + 1 : total };
}

/** `hash:sha3:<hex>:<url>` of what `content` is. */
export function taskPackage(url: string, content: Uint8Array, bits: 224 | 256 | 384 | 512 = 224): string {
  return `hash:sha3:${sha3(content, bits)}:${url}`;
}

export function sha3(content: Uint8Array, bits: 224 | 256 | 384 | 512 = 224): string {
  return createHash(`sha3-${bits}`).update(content).digest('hex');
}
