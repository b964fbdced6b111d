/** One client of attach.sock: its requests, its commands and their streams. */
import type { Socket } from 'node:net';
import { decodeMap, decodeRequest, encodeMessage, RequestError } from '../../guest/protocol/codec.ts';
import { FrameType, STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import type {
  FilesReply,
  Notification,
  Operation,
  Reply,
  RequestOf,
  RunReply,
} from '../../guest/protocol/messages.ts';
import type { Logger } from '../lib/logger.ts';
import { writeChunk } from '../lib/write.ts';
import { FramePort } from '../runtime/frame-port.ts';
import { InputStream } from '../runtime/input-stream.ts';
import { OutputStream } from '../runtime/output-stream.ts';
import type { CommandResult } from '../runtime/types.ts';
import { accepted } from './accepted.ts';
import { adoptedToken } from './adopt.ts';
import { commandSpecOf, streamNumbers } from './command-spec.ts';
import { decodeDetach } from './detach.ts';
import type { CommandHost, RunningCommand } from './port.ts';
import { AttachError, wireErrorOf } from './wire-error.ts';

/** Requests without an answer, commands that run, and streams that are open: so many of each at most. */
const LIMITS = { pending: 64, commands: 32, streams: 96 } as const;

/** SIGKILL. */
const KILL = 9;

interface ClientCommand {
  running: RunningCommand;
  /** Goes on when the client leaves. */
  detached: boolean;
  /** Somebody else has its output, and its end. */
  adopted?: boolean;
}

/** Answers a request with what it returns. */
type Handler<Op extends Operation> = (request: RequestOf<Op>, id: number) => Promise<unknown>;

export class ClientSession {
  readonly #host: CommandHost;
  readonly #port: FramePort;
  readonly #log: Logger;
  readonly #onClosed: () => void;
  readonly #commands = new Map<number, ClientCommand>();
  #starting = 0;
  /** What the client sends: stdin. By its number of the stream. */
  readonly #incoming = new Map<number, OutputStream>();
  /** What the client is sent, and gives credit for. */
  readonly #outgoing = new Map<number, InputStream>();
  /** File transfers under way, by the id of their request. */
  readonly #transfers = new Map<number, AbortController>();
  /** Ids of requests that were not answered yet, and of commands. */
  readonly #ids = new Set<number>();
  /** Fires when the client is gone: what moves files for it stops. */
  readonly #left = new AbortController();

  constructor(host: CommandHost, socket: Socket, log: Logger, onClosed: () => void) {
    this.#host = host;
    this.#log = log;
    this.#onClosed = onClosed;
    this.#port = new FramePort(
      'attach',
      accepted(socket),
      {
        message: (payload) => this.#onMessage(payload),
        data: (stream, piece) => this.#incoming.get(stream)?.accept(piece),
        end: (stream) => this.#endIncoming(stream),
        credit: (stream, bytes) => this.#outgoing.get(stream)?.grant(bytes),
      },
      (error) => this.#leave(error),
    );
  }

  /** Ends the connection from our side; its commands are killed. */
  close(): void {
    this.#port.close();
    this.#leave(null);
  }

  // ---------------------------------------------------------------- requests

  /** What a client may ask for, and nothing else: the VM is configured and ended by its supervisor alone. */
  readonly #handlers: { [Op in Operation]?: Handler<Op> } = {
    run: (request, id) => this.#run(request, id),
    signal: async ({ process, signal, tree }) => {
      await this.#command(process).running.signal(signal, { tree });
      return {};
    },
    resize: async ({ process, rows, columns }) => {
      await this.#command(process).running.resize(rows, columns);
      return {};
    },
    input: async ({ process }) => {
      this.#command(process).running.stdin?.end();
      return {};
    },
    stats: async () => await this.#host.stats(),
    'read-files': (request, id) => this.#transfer(id, (signal) => this.#readFiles(request, signal)),
    'write-files': (request, id) => this.#transfer(id, (signal) => this.#writeFiles(request, signal)),
    cancel: async ({ request }) => {
      this.#transfers.get(request)?.abort(new AttachError('file-failed', 'the transfer was given up'));
      return {};
    },
  };

  #onMessage(payload: Uint8Array): void {
    const map = decodeMap(payload);
    const detached = decodeDetach(map);
    if (detached !== null) {
      const command = this.#commands.get(detached);
      if (command) command.detached = true;
      return;
    }
    try {
      const request = decodeRequest(payload);
      const token = adoptedToken(map);
      if (token !== undefined) {
        this.#answer(request.id, () => this.#adopt(token, request));
        return;
      }
      const handler = this.#handlers[request.op] as Handler<Operation> | undefined;
      this.#answer(request.id, async () => {
        if (!handler)
          throw new AttachError('unknown-request', `'${request.op}' is for the VM's supervisor only`);
        return await handler(request, request.id);
      });
    } catch (error) {
      if (!(error instanceof RequestError) || error.id === undefined) throw error;
      this.#send({ id: error.id, error: { code: error.code, message: error.message } });
    }
  }

  #answer(id: number, work: () => Promise<unknown>): void {
    if (this.#ids.has(id)) throw new Error(`request ${id} is already there`);
    if (this.#ids.size - this.#commands.size >= LIMITS.pending)
      throw new Error('too many requests without an answer');
    this.#ids.add(id);
    work()
      .then(
        (ok) => this.#send({ id, ok }),
        (error) => this.#send({ id, error: wireErrorOf(error) }),
      )
      .finally(() => {
        if (!this.#commands.has(id)) this.#ids.delete(id);
      });
  }

  #command(process: number): ClientCommand {
    const command = this.#commands.get(process);
    if (!command) throw new AttachError('unknown-process', `no command of this client runs as ${process}`);
    return command;
  }

  // ---------------------------------------------------------------- commands

  async #run(request: RequestOf<'run'>, id: number): Promise<RunReply> {
    const numbers = streamNumbers(request);
    this.#checkStreams([numbers.stdin, numbers.stdout, numbers.stderr]);
    if (this.#commands.size + this.#starting >= LIMITS.commands) {
      throw new AttachError('bad-request', `${LIMITS.commands} commands of this client run already`);
    }
    const input = numbers.stdin === undefined ? null : this.#openIncoming(numbers.stdin);
    this.#starting++;
    const running = await this.#host
      .run(commandSpecOf(request))
      .catch((error) => {
        if (numbers.stdin !== undefined) this.#incoming.delete(numbers.stdin);
        throw error;
      })
      .finally(() => {
        this.#starting--;
      });
    const command: ClientCommand = { running, detached: false };
    if (this.#left.signal.aborted) {
      this.#abandon(command);
      return { pid: running.pid };
    }
    this.#commands.set(id, command);
    if (input && running.stdin) this.#feed(input, running.stdin);
    this.#forward(running.stdout, numbers.stdout);
    this.#forward(running.stderr, numbers.stderr);
    void this.#follow(id, running);
    return { pid: running.pid };
  }

  /** Ties a command that already runs to this client, which may leave it again: its owner is another. */
  async #adopt(token: string, request: RequestOf<Operation> & { id: number }): Promise<RunReply> {
    const running = await this.#host.runningAs?.(token);
    if (!running || request.op !== 'run')
      throw new AttachError('unknown-process', `no command runs as '${token}'`);
    const { stdin } = streamNumbers(request);
    this.#checkStreams([stdin]);
    if (this.#commands.size + this.#starting >= LIMITS.commands) {
      throw new AttachError('bad-request', `${LIMITS.commands} commands of this client run already`);
    }
    this.#commands.set(request.id, { running, detached: true, adopted: true });
    const input = stdin === undefined ? null : this.#openIncoming(stdin);
    if (input && running.stdin) this.#feed(input, running.stdin);
    void this.#follow(request.id, running);
    return { pid: running.pid };
  }

  /** Client → the command's stdin. That the client left is no end of input: its command may be detached. */
  #feed(from: OutputStream, to: NonNullable<RunningCommand['stdin']>): void {
    to.on('error', () => {});
    const end = () => {
      if (!this.#left.signal.aborted) to.end();
    };
    from.consume(async (bytes) => void (await writeChunk(to, bytes))).then(end, end);
  }

  /** Tells the client when its command ended: after all of its output, which is sent by then. */
  async #follow(id: number, running: RunningCommand): Promise<void> {
    try {
      const result = await running.result;
      this.#commands.delete(id);
      this.#ids.delete(id);
      this.#send(exitedEvent(id, result));
    } catch (error) {
      // The VM is gone. Its clients learn that as it is: the connection ends.
      this.#log.debug({ err: error }, 'attach: a command ended with its VM');
      this.close();
    }
  }

  // ---------------------------------------------------------------- files

  /** Does a transfer that ends when the client leaves, or cancels it. */
  async #transfer(id: number, work: (signal: AbortSignal) => Promise<FilesReply>): Promise<FilesReply> {
    const cancelled = new AbortController();
    this.#transfers.set(id, cancelled);
    try {
      return await work(AbortSignal.any([this.#left.signal, cancelled.signal]));
    } finally {
      this.#transfers.delete(id);
    }
  }

  async #readFiles(
    { path, format, stream }: RequestOf<'read-files'>,
    signal: AbortSignal,
  ): Promise<FilesReply> {
    this.#checkStreams([stream]);
    const to = this.#openOutgoing(stream);
    try {
      return await this.#host.readFiles(path, async (bytes) => void (await writeChunk(to, bytes)), {
        format,
        signal,
      });
    } finally {
      to.end();
      this.#outgoing.delete(stream);
    }
  }

  async #writeFiles(
    { path, format, stream, mode, uid, gid }: RequestOf<'write-files'>,
    signal: AbortSignal,
  ): Promise<FilesReply> {
    this.#checkStreams([stream]);
    const from = this.#openIncoming(stream);
    try {
      return await this.#host.writeFiles(path, from, { format, mode, uid, gid, signal });
    } finally {
      from.discard();
      this.#incoming.delete(stream);
    }
  }

  // ---------------------------------------------------------------- streams

  /** @throws {AttachError} when one is open already, or too many are. */
  #checkStreams(numbers: (number | undefined)[]): void {
    const asked = numbers.filter((number) => number !== undefined);
    const taken = asked.find((number, index) => {
      return this.#incoming.has(number) || this.#outgoing.has(number) || asked.indexOf(number) < index;
    });
    if (taken !== undefined) throw new AttachError('bad-request', `stream ${taken} is already open`);
    if (this.#incoming.size + this.#outgoing.size + asked.length > LIMITS.streams) {
      throw new AttachError('bad-request', `more than ${LIMITS.streams} streams`);
    }
  }

  #openIncoming(number: number): OutputStream {
    const stream = new OutputStream(number, (bytes) => this.#port.sendCredit(number, bytes));
    this.#incoming.set(number, stream);
    // The client waits for this before it sends.
    this.#port.sendCredit(number, STREAM_WINDOW);
    return stream;
  }

  #endIncoming(number: number): void {
    this.#incoming.get(number)?.end();
    this.#incoming.delete(number);
  }

  /** Passes a stream of a command on to the client, as fast as both allow, until its end. */
  #forward(from: OutputStream | null, number: number | undefined): void {
    if (!from || number === undefined) return;
    const to = this.#openOutgoing(number);
    from
      .consume(async (bytes) => void (await writeChunk(to, bytes)))
      .then(
        () => to.end(),
        () => to.destroy(),
      )
      .finally(() => this.#outgoing.delete(number));
  }

  #openOutgoing(number: number): InputStream {
    const stream = new InputStream(number, this.#port, { credit: STREAM_WINDOW });
    this.#outgoing.set(number, stream);
    return stream;
  }

  #send(message: Reply | Notification): void {
    if (!this.#left.signal.aborted) this.#port.send(FrameType.message, 0, encodeMessage(message));
  }

  // ---------------------------------------------------------------- the end

  #leave(error: Error | null): void {
    if (this.#left.signal.aborted) return;
    this.#left.abort();
    if (error) this.#log.warn({ err: error }, 'attach: a client broke the protocol');
    for (const command of this.#commands.values()) this.#abandon(command);
    this.#commands.clear();
    for (const stream of this.#outgoing.values()) stream.destroy();
    for (const stream of this.#incoming.values()) stream.discard();
    this.#onClosed();
  }

  /** The client is gone. Its command goes with it, unless it was detached: then its output leads nowhere. */
  #abandon({ running, detached, adopted }: ClientCommand): void {
    if (adopted) return;
    running.stdout?.discard();
    running.stderr?.discard();
    // Also handled here: nobody else waits for it any more.
    running.result.catch(() => {});
    // To a shell the end of its input is the word to end.
    if (detached) return;
    running.stdin?.end();
    running.signal(KILL, { tree: true }).catch(() => {});
  }
}

function exitedEvent(process: number, result: CommandResult): Notification {
  const { exitCode, signal, outOfMemory, totals, cpu, memoryPeak } = result;
  const end = signal === undefined ? { code: exitCode } : { signal };
  return { event: 'exited', process, ...end, outOfMemory, totals, cpu, memoryPeak };
}
