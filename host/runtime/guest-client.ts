/** The host's end of the three ports: hello, requests, commands, files. Trusts nothing that comes from the guest. */
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { decodeGuestMessage, type UnknownEvent } from '../../guest/protocol/codec.ts';
import type {
  ExitedEvent,
  FilesReply,
  Hello,
  Notification,
  Operation,
  OutputSpec,
  Reply,
  ReplyOf,
  RequestOf,
  RunRequest,
} from '../../guest/protocol/messages.ts';
import { PORTS } from '../../guest/protocol/messages.ts';
import { withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { Command, OUTPUT_WAIT } from './command.ts';
import { type Connect, FramePort } from './frame-port.ts';
import type { FrameHandlers } from './frame-reader.ts';
import { GuestRequestError, protocolError } from './guest-errors.ts';
import { GuestLog } from './log-port.ts';
import type { Sink } from './output-stream.ts';
import { type RequestOptions, Requests } from './requests.ts';
import { Streams } from './streams.ts';
import type { CommandSpec } from './types.ts';

/** The three ports of a VM; or one connection that carries control and data together (attach.sock, which has no log). */
export type GuestPorts = { control: Connect; data: Connect; log: Connect } | { joint: Connect };

export interface GuestClientOptions {
  logger: Logger;
  /**
   * Called once when the ports can carry nothing more. `null`: they were closed, so the VM is ending, and its owner
   * finds out why and calls {@link GuestClient.close}; an error: the guest broke the protocol, everything has failed.
   */
  onEnd(error: YavmError | null): void;
  /** Milliseconds that an exit notice waits for announced output; for tests. */
  outputWait?: number;
}

export interface RunOptions {
  /** Readers of the captured streams, from the first byte on; else read `command.stdout` and `.stderr`. */
  stdout?: Sink;
  stderr?: Sink;
  /** Until the command has started: gives up. Afterwards: kills its tree. */
  signal?: AbortSignal;
  deadline?: number;
  /** On attach.sock only: not a new command, but the one that runs under this token (host/attach/adopt.ts). */
  adopt?: string;
}

export interface WriteFilesOptions {
  format?: 'file' | 'tar';
  /** Of a file. */
  mode?: number;
  uid?: number;
  gid?: number;
  signal?: AbortSignal;
}

/** Notifications that nobody asked for, a second, before they are a flood. */
const MAX_UNASKED = 1000;
/** For transfers: the guest may have to write out what it has taken. */
const TRANSFER_DEADLINE = 120_000;
/** From the first port's end to the last's, at most: they end together when QEMU does. */
const LAST_BYTES_WAIT = 1000;
const SIGKILL = 9;

export class GuestClient {
  readonly #options: GuestClientOptions;
  readonly #ports: FramePort[];
  #portsOpen: number;
  readonly #requests: Requests;
  readonly #streams: Streams;
  readonly #log: GuestLog;
  readonly #commands = new Map<number, Command>();
  /** Processes that started after their start was given up; their exit is still to come. */
  readonly #abandoned = new Set<number>();
  readonly #hello = deferred<Hello>();
  #greeted = false;
  #closed = false;
  #unasked = { since: 0, count: 0 };

  constructor(ports: GuestPorts, options: GuestClientOptions) {
    this.#options = options;
    this.#hello.promise.catch(() => {});
    this.#log = new GuestLog(options.logger);
    const messages: FrameHandlers = { message: (payload) => this.#message(payload) };
    const streams: FrameHandlers = {
      data: (stream, piece) => this.#streams.data(stream, piece),
      end: (stream) => this.#streams.end(stream),
      credit: (stream, bytes) => this.#streams.credit(stream, bytes),
    };
    if ('joint' in ports) {
      const joint = this.#open('attach', ports.joint, { ...messages, ...streams });
      this.#ports = [joint];
      this.#portsOpen = 1;
      this.#requests = new Requests(joint);
      this.#streams = new Streams(joint);
      return;
    }
    const control = this.#open(PORTS.control, ports.control, messages);
    const data = this.#open(PORTS.data, ports.data, streams);
    const log = this.#open(PORTS.log, ports.log, {
      log: (payload) => log.pause(this.#log.receive(payload)),
    });
    this.#ports = [control, data, log];
    this.#portsOpen = this.#ports.length;
    this.#requests = new Requests(control);
    this.#streams = new Streams(data);
  }

  #open(name: string, connect: Connect, handlers: FrameHandlers): FramePort {
    return new FramePort(name, connect, handlers, (error) => this.#portEnded(name, error));
  }

  /** What the agent said before it gave up, if it did. */
  get lastWords(): string | null {
    return this.#log.lastWords;
  }

  /** The guest's first message. @throws {YavmError} YAVM_E_TIMEOUT at the deadline; the VM's error. */
  hello(milliseconds: number, signal?: AbortSignal): Promise<Hello> {
    return withDeadline(this.#hello.promise, milliseconds, "the guest's agent", { signal });
  }

  /** The guest said so long ago, and will not again. */
  greeted(hello: Hello): void {
    this.#greet(hello);
  }

  /** Any request that needs no stream; see {@link Requests.send} for the errors. */
  request<Op extends Operation>(body: RequestOf<Op>, options?: RequestOptions): Promise<ReplyOf[Op]> {
    return this.#requests.send(body, options);
  }

  /** Starts a command. @throws {GuestRequestError} YAVM_E_GUEST_SPAWN_FAILED and others; see {@link Requests.send}. */
  async run(spec: CommandSpec, options: RunOptions = {}): Promise<Command> {
    const streams = {
      stdin: spec.stdin ? this.#streams.openInput() : null,
      stdout: isPiped(spec.stdout) ? this.#streams.openOutput() : null,
      stderr: isPiped(spec.stderr) && !spec.tty ? this.#streams.openOutput() : null,
    };
    const command = new Command(this.#requests.nextId, streams, this.#requests);
    // A sink that fails only stops its stream; its owner sees why in its own code.
    if (options.stdout) streams.stdout?.consume(options.stdout).catch(() => {});
    if (options.stderr) streams.stderr?.consume(options.stderr).catch(() => {});
    this.#commands.set(command.id, command);
    try {
      const { adopt } = options;
      const request = { ...runRequest(spec, command), ...(adopt === undefined ? {} : { adopt }) };
      const reply = await this.#requests.send(request, {
        deadline: options.deadline,
        signal: options.signal,
        onLate: () => this.#killAbandoned(command.id),
      });
      command.started(reply.pid);
    } catch (error) {
      this.#forget(command, toError(error));
      throw error;
    }
    if (options.signal) this.#killOnAbort(command, options.signal);
    return command;
  }

  /**
   * Reads a file, or a directory as a tar, from the task's root into `sink`. Resolves when the sink has all of it.
   * @throws {GuestRequestError} YAVM_E_GUEST_FILE_FAILED; {YavmError} YAVM_E_TRANSFER_INCOMPLETE; what the sink throws.
   */
  async readFiles(
    path: string,
    sink: Sink,
    options: { format?: 'file' | 'tar'; signal?: AbortSignal } = {},
  ): Promise<FilesReply> {
    const { format = 'file', signal } = options;
    signal?.throwIfAborted();
    const id = this.#requests.nextId;
    const stream = this.#streams.openOutput(() => this.#requests.progress(id));
    const consumed = stream.consume(sink);
    consumed.catch(() => {});
    try {
      const answered = this.#requests.send(
        { op: 'read-files', path, stream: stream.id, format },
        { deadline: TRANSFER_DEADLINE, signal, excused: () => !stream.drained },
      );
      const broken = consumed.then(() => new Promise<never>(() => {}));
      const reply = await Promise.race([answered, broken]);
      await withDeadline(stream.ended(), OUTPUT_WAIT, `the guest with the rest of '${path}'`, { signal });
      if (stream.failure) throw stream.failure;
      if (stream.received !== reply.bytes) throw incomplete(path, stream.received, reply.bytes);
      // As long as the sink takes; but nobody waits for it who has given up.
      await withDeadline(consumed, Number.POSITIVE_INFINITY, 'the sink', { signal });
      return reply;
    } catch (error) {
      this.#cancel(id, error);
      throw error;
    } finally {
      this.#streams.close(stream.id);
      stream.discard();
    }
  }

  /**
   * Writes `source` to a file, or unpacks it as a tar beneath a directory, in the task's root. Resolves when all of it
   * is on the guest's file system. When `source` fails, a file stays what it was; of a tar, entries that came before
   * may be there.
   */
  async writeFiles(
    path: string,
    source: Readable | AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    options: WriteFilesOptions = {},
  ): Promise<FilesReply> {
    const { format = 'file', mode, uid, gid, signal } = options;
    signal?.throwIfAborted();
    const id = this.#requests.nextId;
    const stream = this.#streams.openInput(() => this.#requests.progress(id), false);
    const stop = new AbortController();
    const stopped = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    // At once: a source that ends because of the abort must not pass for the end of its bytes.
    stopped.addEventListener('abort', () => stream.release(), { once: true });
    const answered = this.#requests.send(
      { op: 'write-files', path, stream: stream.id, format, mode, uid, gid },
      {
        deadline: TRANSFER_DEADLINE,
        signal: stopped,
        excused: () => !stream.writableFinished && !stream.waitingForGuest,
      },
    );
    const sent = pipeline(source, stream, { signal: stop.signal });
    sent.catch(() => {});
    try {
      // The guest may refuse before everything is sent; a source that fails ends the wait for an answer.
      const reply = await Promise.race([answered, sent.then(() => answered)]);
      // A tar says itself where it ends; what follows may be left unread.
      if (format === 'file' && stream.sent !== reply.bytes) throw incomplete(path, reply.bytes, stream.sent);
      return reply;
    } catch (error) {
      this.#cancel(id, error);
      throw error;
    } finally {
      stop.abort();
      this.#streams.close(stream.id);
    }
  }

  /** Ends a transfer in the guest that failed here; what the guest has refused has ended there. */
  #cancel(id: number, error: unknown): void {
    if (error instanceof GuestRequestError) return;
    this.#requests.send({ op: 'cancel', request: id }).catch(() => {});
  }

  /** Closes the ports; whatever waits, and whatever is asked from now on, fails with `error`. */
  close(error: Error): void {
    if (!this.#closed) for (const port of this.#ports) port.close();
    this.#closed = true;
    this.#hello.reject(error);
    this.#requests.close(error);
    for (const command of this.#commands.values()) command.fail(error);
    this.#commands.clear();
    this.#streams.fail(error);
  }

  // ---------------------------------------------------------------- what comes in

  #portEnded(name: string, cause: Error | null): void {
    if (this.#closed) return;
    if (cause === null) {
      // The others may still hold what the guest said last; but a VM does not go on without one of them.
      this.#portsOpen--;
      if (this.#portsOpen === 0) this.#allEnded();
      else setTimeout(() => this.#allEnded(), LAST_BYTES_WAIT).unref();
      return;
    }
    const error = protocolError(name, cause);
    this.close(error);
    this.#options.onEnd(error);
  }

  #allEnded(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const port of this.#ports) port.close();
    this.#options.onEnd(null);
  }

  #message(payload: Uint8Array): void {
    const message = decodeGuestMessage(payload);
    if (isReply(message)) this.#requests.answer(message);
    else if ('unknown' in message) this.#countUnasked(message.unknown);
    else if (message.event === 'hello') this.#greet(message);
    else if (message.event === 'exited') this.#exited(message);
    else if (message.event === 'out-of-memory') this.#outOfMemory(message);
    else throw new Error(`it could not read port '${message.port}': ${message.message}`);
  }

  #greet(hello: Hello): void {
    if (this.#greeted) throw new Error('a second hello');
    this.#greeted = true;
    this.#hello.resolve(hello);
  }

  #exited(event: ExitedEvent): void {
    const command = this.#commands.get(event.process);
    if (!command) {
      if (this.#abandoned.delete(event.process)) return;
      throw new Error(`the exit of process ${event.process}, which does not run`);
    }
    this.#commands.delete(command.id);
    if (command.stdin) this.#streams.close(command.stdin.id);
    void command.exited(event, this.#options.outputWait);
  }

  #outOfMemory(event: Extract<Notification, { event: 'out-of-memory' }>): void {
    this.#countUnasked('out-of-memory');
    this.#options.logger.warn({ process: event.process, kills: event.kills }, 'guest: out of memory');
  }

  #countUnasked(event: string): void {
    const now = performance.now();
    if (now - this.#unasked.since > 1000) this.#unasked = { since: now, count: 0 };
    if (++this.#unasked.count > MAX_UNASKED) throw new Error(`a flood of '${event}' notifications`);
  }

  // ---------------------------------------------------------------- commands given up

  #forget(command: Command, error: Error): void {
    this.#commands.delete(command.id);
    for (const stream of [command.stdin, command.stdout, command.stderr]) {
      if (stream) this.#streams.close(stream.id);
    }
    command.fail(error);
  }

  /** It has started after all: nobody waits for it, so it must not stay. */
  #killAbandoned(id: number): void {
    this.#abandoned.add(id);
    this.#requests.send({ op: 'signal', process: id, signal: SIGKILL, tree: true }).catch(() => {});
  }

  #killOnAbort(command: Command, signal: AbortSignal): void {
    const kill = () => void command.signal(SIGKILL, { tree: true }).catch(() => {});
    if (signal.aborted) kill();
    signal.addEventListener('abort', kill, { once: true });
    const forget = () => signal.removeEventListener('abort', kill);
    command.result.then(forget, forget);
  }
}

function isReply(message: Reply | Notification | UnknownEvent): message is Reply {
  return 'id' in message;
}

function isPiped(output: CommandSpec['stdout'] | CommandSpec['stderr']): boolean {
  return output === undefined || output === 'pipe';
}

function runRequest(spec: CommandSpec, { stdin, stdout, stderr }: Command): RunRequest {
  const { argv, argv0, env, cwd, user, rlimits, tty, noNewPrivileges, memoryLimit, pidsLimit } = spec;
  return {
    op: 'run',
    argv,
    argv0,
    env,
    cwd,
    user,
    rlimits,
    tty,
    noNewPrivileges,
    memoryLimit,
    pidsLimit,
    stdin: stdin?.id,
    stdout: outputSpec(spec.stdout, stdout?.id),
    stderr: spec.stderr === 'merge' ? 'stdout' : outputSpec(spec.stderr, stderr?.id),
  };
}

function outputSpec(
  output: CommandSpec['stdout'] | CommandSpec['stderr'],
  stream: number | undefined,
): OutputSpec {
  if (stream !== undefined) return { stream };
  return typeof output === 'object' ? output : 'discard';
}

function incomplete(path: string, arrived: number, announced: number): YavmError {
  return new YavmError('YAVM_E_TRANSFER_INCOMPLETE', `'${path}': ${arrived} of ${announced} bytes arrived`);
}
