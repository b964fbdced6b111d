/** The process behind internet.ts: in a network namespace of its own, it is every server there is. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { finished, Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { type DnsQuestion, serveDns, type Zone } from './dns-server.ts';

/** What internet.ts tells this process. Each is answered with `done`, in order. */
export type Order =
  | { order: 'serve'; commands: string[]; addresses: string[] }
  | { order: 'zone'; zone: Zone }
  | { order: 'fetch'; url: string }
  | { order: 'seen' };

export type Answer = { done?: unknown } | { failed: string };

/** What this process has seen since it was last asked. */
export interface Seen {
  questions: DnsQuestion[];
  /** `tcp 93.184.0.1:80` for each connection that was accepted, `udp 151.101.1.69:7 5` for each datagram of five bytes. */
  arrivals: string[];
  /** What the server that speaks first got after that, a text a connection. */
  received: string[];
  /** Connections that are open now. */
  open: number;
}

export const PORTS = {
  http: [80, 8080, 443],
  echo: 7,
  sink: 9,
  source: 19,
  half: 20,
  late: 21,
  slow: 22,
} as const;
/** Bytes of the content that repeats; see contentHash. */
const BLOCK = 64 * 1024;

/** The content of every download. */
export function contentBlock(): Buffer {
  const pieces = Array.from({ length: BLOCK / 32 }, (_, index) =>
    createHash('sha256').update(`piece ${index}`).digest(),
  );
  return Buffer.concat(pieces);
}

/** SHA-256 of the first `size` bytes of it, hexadecimal. */
export function contentHash(size: number): string {
  const block = contentBlock();
  const hash = createHash('sha256');
  for (let left = size; left > 0; left -= block.length) hash.update(block.subarray(0, left));
  return hash.digest('hex');
}

let seen: Omit<Seen, 'open'> = { questions: [], arrivals: [], received: [] };
let zone: Zone = {};
const sockets = new Set<Socket>();
const BLOCK_BYTES = contentBlock();
/** Things kept between two questions of `seen`. */
const MOST_SEEN = 10_000;

function note<Value>(list: Value[], value: Value): void {
  if (list.length < MOST_SEEN) list.push(value);
}

function arrived(socket: Socket): void {
  const address = socket.localAddress?.replace(/^::ffff:/, '') ?? '';
  note(seen.arrivals, `tcp ${address.includes(':') ? `[${address}]` : address}:${socket.localPort}`);
  sockets.add(socket);
  socket.on('error', () => {}).once('close', () => sockets.delete(socket));
}

/** Writes `size` bytes of the content, at the reader's pace. */
async function writeContent(to: NodeJS.WritableStream, size: number): Promise<void> {
  let gone = false;
  finished(to, () => {
    gone = true;
    to.emit('drain');
  });
  for (let left = size; left > 0 && !gone; left -= BLOCK) {
    if (!to.write(BLOCK_BYTES.subarray(0, left))) await once(to, 'drain');
  }
  if (!gone) to.end();
}

/** GET /bytes/N: content. PUT: what came, as `SIZE SHA256`. GET /address: the client's. Others: `hello`. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, size] = /^\/bytes\/(\d+)$/.exec(request.url ?? '') ?? [];
  if (request.method === 'PUT' || request.method === 'POST') {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const piece of request) {
      hash.update(piece);
      bytes += piece.length;
    }
    response.end(`${bytes} ${hash.digest('hex')}`);
  } else if (size !== undefined) {
    response.writeHead(200, { 'content-length': size });
    await writeContent(response, Number(size));
  } else if (request.url === '/address') {
    response.end(request.socket.remoteAddress);
  } else {
    response.end('hello');
  }
}

async function listenTcp(port: number, serve: (socket: Socket) => void, backlog = 1024): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    arrived(socket);
    serve(socket);
  });
  server.listen({ port, host: '::', backlog });
  await once(server, 'listening');
}

/** Says hello, has nothing more to say, and hears the other side out. */
function speakFirst(socket: Socket): void {
  let text = '';
  socket.end('hello, that was all');
  socket.on('data', (piece) => {
    text += piece.toString('latin1');
  });
  socket.on('end', () => note(seen.received, text));
}

/** Counts what comes up to a NUL or the end, and tells it: `SIZE SHA256`. */
function swallow(socket: Socket, pieces: Readable = socket): void {
  const hash = createHash('sha256');
  let bytes = 0;
  const tell = () => socket.end(`${bytes} ${hash.digest('hex')}\n`);
  pieces.on('data', (piece: Buffer) => {
    const last = piece.at(-1) === 0;
    const counted = last ? piece.subarray(0, -1) : piece;
    hash.update(counted);
    bytes += counted.length;
    if (!last) return;
    pieces.off('end', tell);
    tell();
  });
  pieces.on('end', tell);
}

/** Milliseconds between two pieces for who is slow. */
const SLOW = 250;

/** What comes, slowly for as many milliseconds as the first line says: no end is seen before. */
async function* slowly(socket: Socket): AsyncGenerator<Buffer> {
  let until = 0;
  const left = () => Math.max(0, until - Date.now());
  for await (const piece of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    until ||= Date.now() + Number(/^\d+/.exec(piece.toString('latin1', 0, 20))?.[0] ?? 0);
    await setTimeout(piece.at(-1) === 0 ? left() : Math.min(SLOW, left()));
    yield piece;
  }
  await setTimeout(left());
}

/** Once the other side has no more to say: an answer, and a second later its end. */
function answerLate(socket: Socket): void {
  socket.resume().on('end', () => {
    socket.write('late answer');
    void setTimeout(1000).then(() => socket.end());
  });
}

/** The first line is how much is wanted. */
function pour(socket: Socket): void {
  socket.once('data', (line) => {
    void writeContent(socket, Number(line.toString('latin1').trim()));
  });
}

async function serve(addresses: readonly string[]): Promise<void> {
  for (const port of PORTS.http) {
    const server = createHttpServer((request, response) => void answer(request, response));
    server.on('connection', arrived);
    server.listen({ port, host: '::', backlog: 1024 });
    await once(server, 'listening');
  }
  await listenTcp(PORTS.echo, (socket) => void socket.pipe(socket));
  await listenTcp(PORTS.half, speakFirst);
  await listenTcp(PORTS.late, answerLate);
  await listenTcp(PORTS.sink, (socket) => swallow(socket));
  await listenTcp(PORTS.slow, (socket) =>
    swallow(socket, Readable.from(slowly(socket), { objectMode: true })),
  );
  await listenTcp(PORTS.source, pour);
  // On each address by itself: an answer comes from the one that was asked.
  for (const address of addresses) {
    const echo = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    echo.on('message', (bytes, from) => {
      note(seen.arrivals, `udp ${address}:${PORTS.echo} ${bytes.length}`);
      echo.send(bytes, from.port, from.address);
    });
    echo.bind(PORTS.echo, address);
    await once(echo, 'listening');
  }
  await serveDns(
    () => zone,
    (question) => note(seen.questions, question),
  );
}

async function obey(order: Order): Promise<unknown> {
  switch (order.order) {
    case 'serve':
      for (const command of order.commands) execFileSync('ip', command.split(' '));
      return await serve(order.addresses);
    case 'zone':
      zone = order.zone;
      return;
    case 'fetch':
      return await (await fetch(order.url, { signal: AbortSignal.timeout(10_000) })).text();
    case 'seen': {
      const told = { ...seen, open: sockets.size };
      seen = { questions: [], arrivals: [], received: [] };
      return told;
    }
  }
}

if (process.send && process.argv[1] === import.meta.filename) {
  process.on('message', async (order: Order) => {
    try {
      process.send?.({ done: await obey(order) });
    } catch (error) {
      process.send?.({ failed: error instanceof Error ? error.message : String(error) });
    }
  });
  process.on('disconnect', () => process.exit(0));
  process.send({ done: null });
}
