/** network.sock: other processes of this user ask what a VM's network does. Served by the process that runs the VM. */
import { createServer, type Socket } from 'node:net';
import { ValidationError } from '../../guest/protocol/check.ts';
import { toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { listenPrivately } from '../lib/private-listen.ts';
import { errorToWire } from '../lib/wire-error.ts';
import type { NetworkControl, NetworkControlServer } from './control-face.ts';
import {
  type ControlReply,
  type ControlRequest,
  checkRequest,
  encodeLine,
  Lines,
  MAX_LINE,
} from './control-wire.ts';

const LIMITS = {
  /** At a time; more are closed at once. */
  clients: 16,
  /** Requests of one client without an answer. */
  pending: 64,
  /** Bytes of replies that a client has not read. */
  unread: 2 * MAX_LINE.reply,
} as const;

/**
 * Listens at `path` with permissions 0600.
 * @throws {YavmError} YAVM_E_NET_CONTROL
 */
export async function serveNetworkControl(
  control: NetworkControl,
  path: string,
  logger: Logger,
): Promise<NetworkControlServer> {
  const captures = new Captures(control, logger);
  const sessions = new Set<Session>();
  const server = createServer((socket) => {
    if (sessions.size >= LIMITS.clients) {
      logger.warn({ clients: sessions.size }, 'network.sock: too many clients, one more was refused');
      socket.destroy();
      return;
    }
    const session = new Session(socket, { control, captures, logger, onEnd: () => sessions.delete(session) });
    sessions.add(session);
  });
  try {
    await listenPrivately(server, path);
  } catch (cause) {
    throw new YavmError('YAVM_E_NET_CONTROL', `${path}: cannot listen for other processes`, { cause });
  }
  // Who only looks on keeps no VM.
  server.unref();
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      await Promise.all([closed, captures.settled]);
    },
  };
}

/** Whose capture runs: it ends with who asked for it. */
class Captures {
  readonly #control: NetworkControl;
  readonly #logger: Logger;
  #owner: Session | null = null;
  /** Beginnings and ends, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(control: NetworkControl, logger: Logger) {
    this.#control = control;
    this.#logger = logger;
  }

  get settled(): Promise<void> {
    return this.#turn.then(
      () => {},
      () => {},
    );
  }

  begin(session: Session, file: string): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#owner !== null) throw inUse();
      await this.#control.capture(file);
      this.#owner = session;
      // Its client left while it was begun.
      if (session.ended) await this.#stop();
    });
  }

  end(session: Session): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#owner === session) await this.#stop();
    });
  }

  /** As {@link end}; nobody is there to be told. */
  left(session: Session): void {
    this.end(session).catch((error) => {
      this.#logger.debug({ err: toError(error) }, 'a capture did not end in order');
    });
  }

  async #stop(): Promise<void> {
    this.#owner = null;
    await this.#control.capture(null);
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const next = this.settled.then(work);
    this.#turn = next;
    return next;
  }
}

function inUse(): YavmError {
  return new YavmError('YAVM_E_NET_CAPTURE', "this VM's network is captured already", {
    hint: 'Only one at a time is possible: end the other one.',
  });
}

interface SessionParts {
  control: NetworkControl;
  captures: Captures;
  logger: Logger;
  onEnd(): void;
}

/** One client. */
class Session {
  ended = false;
  readonly #socket: Socket;
  readonly #parts: SessionParts;
  #pending = 0;

  constructor(socket: Socket, parts: SessionParts) {
    this.#socket = socket;
    this.#parts = parts;
    const lines = new Lines(MAX_LINE.request, (value) => this.#take(value));
    socket.on('data', (chunk: Uint8Array) => {
      try {
        lines.push(chunk);
      } catch (error) {
        parts.logger.debug({ err: toError(error) }, 'network.sock: a client that cannot be understood');
        socket.destroy();
      }
    });
    socket.on('error', () => {});
    socket.once('close', () => this.#end());
  }

  close(): void {
    this.#socket.destroy();
    this.#end();
  }

  #end(): void {
    if (this.ended) return;
    this.ended = true;
    this.#parts.captures.left(this);
    this.#parts.onEnd();
  }

  /** @throws {ValidationError} for what has no id that could be answered */
  #take(value: unknown): void {
    // What came in one piece with a line that ended this client.
    if (this.#socket.destroyed) return;
    let request: ControlRequest;
    try {
      request = checkRequest(value);
    } catch (error) {
      const id = (value as { id?: unknown } | null)?.id;
      if (!(error instanceof ValidationError) || !Number.isSafeInteger(id)) throw error;
      this.#send({ id: id as number, error: errorToWire(badRequest(error.message)) });
      return;
    }
    if (this.#pending >= LIMITS.pending) {
      const error = badRequest(`more than ${LIMITS.pending} requests wait for an answer`);
      this.#send({ id: request.id, error: errorToWire(error) });
      return;
    }
    void this.#answer(request);
  }

  async #answer(request: ControlRequest): Promise<void> {
    const { id } = request;
    this.#pending++;
    try {
      this.#send({ id, ok: await this.#do(request) });
    } catch (error) {
      this.#send({ id, error: errorToWire(error) });
    } finally {
      this.#pending--;
    }
  }

  async #do(request: ControlRequest): Promise<unknown> {
    const { control, captures } = this.#parts;
    if (request.op === 'stats') return await control.stats();
    if (request.op === 'ping') return await control.ping(request.address, request.milliseconds);
    if (request.file === null) await captures.end(this);
    else await captures.begin(this, request.file);
    return {};
  }

  #send(reply: ControlReply): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(encodeLine(reply));
    // It asks, and does not read.
    if (this.#socket.writableLength > LIMITS.unread) this.#socket.destroy();
  }
}

function badRequest(problem: string): YavmError {
  return new YavmError('YAVM_E_NET_CONTROL', `a request to the network was refused: ${problem}`);
}
