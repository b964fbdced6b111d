/**
 * The runtime API: requests of the stock exe-unit on standard input, answers and events on standard output.
 *
 * Requests are served one after the other, in their order. The supervisor gives the first event of a process that it
 * does not know to the command that it registered last; so, while a run request is answered, events of other processes
 * wait, its process is introduced by an empty event right behind the answer, and nothing of it comes after its end.
 */
import type { Readable, Writable } from 'node:stream';
import { sleep } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { describeError, toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { writeChunk } from '../lib/write.ts';
import { Inbox } from './inbox.ts';
import type { ApiErrorCode, ApiRequest, ApiRequestOf, ApiResponse, Endpoint } from './messages.ts';
import { BadRequest, encodeResponse } from './wire.ts';

export interface ProcessSinks {
  stdout(bytes: Uint8Array): Promise<void>;
  stderr(bytes: Uint8Array): Promise<void>;
}

export interface ProcessEnd {
  /** Exit code, or 128 + signal. */
  returnCode: number;
  /** Shown on the process's stderr: what its exit code does not tell. */
  remark?: string;
}

export interface ApiProcess {
  /** In the VM. The supervisor gets a number of ours, which is never used again. */
  pid: number;
  /** Resolves when it ended and its sinks took all of its output; rejects when the VM ended first. */
  ended: Promise<ProcessEnd>;
  signal(signal: number): Promise<void>;
}

/** What executes the requests: the VM, or a stand-in for tests. */
export interface ApiRuntime {
  run(
    request: Pick<ApiRequestOf<'run'>, 'bin' | 'args' | 'workDir'>,
    sinks: ProcessSinks,
  ): Promise<ApiProcess>;
  network(request: ApiRequestOf<'network'>): Promise<Endpoint>;
  /** Ends everything; resolves when it is cleaned up. May be called more than once. */
  stop(): Promise<void>;
  /** Resolves when it ended: null as asked, else the reason. Never rejects. */
  ended: Promise<Error | null>;
}

export interface ServerOptions {
  input: Readable;
  output: Writable;
  /** Answer to hello. */
  version: string;
  logger: Logger;
}

/** Why serving ended: all but `failed` are orderly. */
export type ServeEnd =
  | { reason: 'shutdown' | 'input-closed' | 'output-closed' | 'interrupted' }
  | { reason: 'failed'; error: Error };

/** Requests that came before the end of the input have this long, milliseconds, then everything is stopped. */
const LAST_REQUESTS = 2000;
/** For the ends of processes whose VM died to be taken by the supervisor, milliseconds. */
const LAST_WORDS = 1000;
/** Pid of events that belong to the start itself. */
const START_PID = 0;
const SIGKILL = 9;
const MAX_SIGNAL = 64;
/** Exit code of a process whose VM died. */
const LOST = 125;
const NEVER = new Promise<never>(() => {});

export class ApiServer {
  readonly #options: ServerOptions;
  readonly #inbox: Inbox;
  readonly #processes = new Map<number, { process: ApiProcess; told: Promise<void> }>();
  readonly #outputClosed = deferred<void>();
  #lastPid = START_PID;
  /** Set while a run request is answered. */
  #answering: Promise<void> | null = null;
  /** Set from a shutdown on: its answer is the last thing said. */
  #silent = false;

  /** Reads from now on, so that the end of the input is seen while the VM starts. */
  constructor(options: ServerOptions) {
    this.#options = options;
    this.#inbox = new Inbox(options.input);
    options.output.on('error', () => this.#outputClosed.resolve());
    options.output.once('close', () => this.#outputClosed.resolve());
  }

  /** Resolves when the supervisor is gone: nobody is served any more. */
  get abandoned(): Promise<void> {
    return Promise.race([this.#inbox.ended.then(() => {}), this.#outputClosed.promise]);
  }

  /** Tells the supervisor something about the start; goes out before the answer to hello. */
  async announce(text: string): Promise<void> {
    await this.#send({ kind: 'status', pid: START_PID, running: true, stdout: Buffer.from(text) });
  }

  /** For what the start itself has running: to the supervisor it never ends. */
  readonly startSinks: ProcessSinks = {
    stdout: (bytes) => this.#event({ kind: 'status', pid: START_PID, running: true, stdout: bytes }),
    stderr: (bytes) => this.#event({ kind: 'status', pid: START_PID, running: true, stderr: bytes }),
  };

  /**
   * Serves until the supervisor has enough, the runtime ends, or `signal` fires. The runtime is stopped then, in every
   * case.
   */
  async serve(runtime: ApiRuntime, signal?: AbortSignal): Promise<ServeEnd> {
    const over = new AbortController();
    const ends: Promise<ServeEnd>[] = [
      this.#requests(runtime),
      runtime.ended.then((error) => this.#runtimeEnded(error)),
      this.#outputClosed.promise.then(() => ({ reason: 'output-closed' })),
      this.#inbox.ended.then((error) => this.#inputEnded(error, over.signal)),
      aborted(signal, over.signal).then(() => ({ reason: 'interrupted' })),
    ];
    try {
      return await Promise.race(ends);
    } finally {
      over.abort();
      this.#silent = true;
      this.#inbox.close();
      await runtime.stop();
    }
  }

  async #requests(runtime: ApiRuntime): Promise<ServeEnd> {
    for (;;) {
      const request = await this.#inbox.next();
      if (request === null) break;
      if (request instanceof BadRequest) {
        this.#options.logger.warn({ err: request }, 'a request that makes no sense');
        await this.#send(errorResponse(request.id, request));
        continue;
      }
      await this.#serveOne(runtime, request);
      if (request.kind === 'shutdown') return { reason: 'shutdown' };
    }
    if ((await this.#inbox.ended) === null) return { reason: 'input-closed' };
    return await NEVER;
  }

  async #serveOne(runtime: ApiRuntime, request: ApiRequest): Promise<void> {
    const { id } = request;
    try {
      switch (request.kind) {
        case 'hello':
          return await this.#send({ kind: 'hello', id, version: this.#options.version });
        case 'run':
          return await this.#run(runtime, request);
        case 'kill':
          await this.#kill(request);
          return await this.#send({ kind: 'kill', id });
        case 'network':
          return await this.#send({ kind: 'network', id, endpoint: await runtime.network(request) });
        case 'shutdown':
          this.#silent = true;
          await runtime.stop();
          return await this.#write({ kind: 'shutdown', id });
      }
    } catch (error) {
      this.#options.logger.warn({ request: request.kind, err: toError(error) }, 'a request failed');
      await this.#send(errorResponse(id, error));
    }
  }

  // ---------------------------------------------------------------- processes

  async #run(runtime: ApiRuntime, request: ApiRequestOf<'run'>): Promise<void> {
    const answered = deferred<void>();
    const pid = ++this.#lastPid;
    // Until the end is told, and not after it: what background children write later belongs to nobody.
    const state = { over: false };
    const sink = (stream: 'stdout' | 'stderr') => async (bytes: Uint8Array) => {
      await answered.promise;
      if (!state.over) await this.#event({ kind: 'status', pid, running: true, [stream]: bytes });
    };
    this.#answering = answered.promise;
    try {
      const process = await runtime.run(request, { stdout: sink('stdout'), stderr: sink('stderr') });
      const told = this.#announceEnd(pid, process, answered.promise, state);
      this.#processes.set(pid, { process, told });
      await this.#send({ kind: 'run', id: request.id, pid });
      await this.#send({ kind: 'status', pid, running: true });
    } catch (error) {
      state.over = true;
      throw error;
    } finally {
      this.#answering = null;
      answered.resolve();
    }
  }

  async #announceEnd(
    pid: number,
    process: ApiProcess,
    answered: Promise<void>,
    state: { over: boolean },
  ): Promise<void> {
    const end = await process.ended.catch(
      (error): ProcessEnd => ({ returnCode: LOST, remark: firstLine(error) }),
    );
    await answered;
    this.#processes.delete(pid);
    const { returnCode, remark } = end;
    const stderr = remark === undefined ? undefined : Buffer.from(`ya-vm: ${remark}\n`);
    state.over = true;
    await this.#event({ kind: 'status', pid, running: false, returnCode, stderr });
  }

  async #kill({ pid, signal }: ApiRequestOf<'kill'>): Promise<void> {
    const running = this.#processes.get(pid);
    if (!running) throw new YavmError('YAVM_E_RUNTIME_PROCESS', `no process ${pid} runs`);
    if (signal < 0 || signal > MAX_SIGNAL) {
      throw new YavmError('YAVM_E_RUNTIME_REQUEST', `${signal} is no signal`);
    }
    // Not set: the upstream runtime kills whatever the number.
    await running.process.signal(signal || SIGKILL);
  }

  // ---------------------------------------------------------------- ends

  async #inputEnded(error: Error | null, over: AbortSignal): Promise<ServeEnd> {
    if (error === null) {
      await sleep(LAST_REQUESTS, over);
      return { reason: 'input-closed' };
    }
    await this.#send(errorResponse(0n, error));
    return { reason: 'failed', error };
  }

  async #runtimeEnded(error: Error | null): Promise<ServeEnd> {
    // As asked, by us: who asked says why.
    if (error === null) return await NEVER;
    // Those who wait for a process are told.
    await Promise.race([
      Promise.all([...this.#processes.values()].map(({ told }) => told)),
      sleep(LAST_WORDS),
    ]);
    return { reason: 'failed', error };
  }

  // ---------------------------------------------------------------- output

  async #event(event: ApiResponse): Promise<void> {
    while (this.#answering) await this.#answering;
    await this.#send(event);
  }

  async #send(response: ApiResponse): Promise<void> {
    if (!this.#silent) await this.#write(response);
  }

  /** Resolves when the pipe took it, so a supervisor that does not read slows its commands down, and nothing else. */
  async #write(response: ApiResponse): Promise<void> {
    const error = await writeChunk(this.#options.output, encodeResponse(response));
    if (error) this.#outputClosed.resolve();
  }
}

/** Resolves when `signal` fires before `over` does. */
function aborted(signal: AbortSignal | undefined, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) resolve();
    signal?.addEventListener('abort', () => resolve(), { once: true, signal: over });
  });
}

function errorResponse(id: bigint, error: unknown): ApiResponse {
  return { kind: 'error', id, code: errorCode(error), message: firstLine(error) };
}

/** Codes of what is wrong with a request itself. */
const BAD_REQUESTS: ReadonlySet<unknown> = new Set([
  'YAVM_E_RUNTIME_REQUEST',
  'YAVM_E_REQUEST_TOO_LONG',
  'YAVM_E_NET_ADDRESS',
  'YAVM_E_GUEST_BAD_REQUEST',
]);

function errorCode(error: unknown): ApiErrorCode {
  if (error instanceof BadRequest) return 'bad-request';
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  if (code === 'YAVM_E_RUNTIME_PROCESS') return 'not-found';
  if (BAD_REQUESTS.has(code)) return 'bad-request';
  if (code === 'YAVM_E_GUEST_SPAWN_FAILED') return errno === 'ENOENT' ? 'not-found' : 'bad-request';
  return 'internal';
}

/** One line with the code: it becomes a command's message. */
function firstLine(error: unknown): string {
  return describeError(error).split('\n', 1)[0] as string;
}
