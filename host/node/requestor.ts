/** What a requestor says to one activity, over the bus (exe-unit.md 4.1, 4.2). */
import { randomUUID } from 'node:crypto';
import type { CallOptions, Flex, Gsb } from '../gsb/types.ts';
import { textOf } from './decode.ts';
import {
  type ActivityState,
  type ActivityUsage,
  type CommandResult,
  type RunningCommand,
  type RuntimeEvent,
  readActivityState,
  readActivityUsage,
  readResults,
  readRunning,
  readRuntimeEvent,
} from './messages.ts';

/** Milliseconds for calls that are answered at once. */
const PROMPT = 10_000;
/** What an answer may take beyond the time that was asked for; yagna adds as much. Milliseconds. */
const MARGIN = 5000;
/** A stream lasts as long as its batch; whoever has had enough leaves it, or gives a signal. */
const STREAM = 2 ** 31 - 1;

export interface RequestorOptions {
  gsb: Gsb;
  activity: string;
  /** A node id, as calls from the network have it; default `local`. */
  caller?: string;
}

export interface ResultsOptions {
  /** Seconds that the activity may wait for more; null: what there is. Default null. */
  timeout?: number | null;
  /** Wait for this command, and get its output only; null: the batch. Default null. */
  commandIndex?: number | null;
  signal?: AbortSignal;
}

/** Errors of every method: {@link Gsb.call}'s, and YAVM_E_NODE_MESSAGE for an answer that cannot be. */
export class Requestor {
  readonly activity: string;
  readonly #gsb: Gsb;
  readonly #caller: string | undefined;
  readonly #prefix: string;
  /** Batches without commands: their results never say that they are finished. */
  readonly #empty = new Set<string>();

  constructor({ gsb, activity, caller }: RequestorOptions) {
    this.activity = activity;
    this.#gsb = gsb;
    this.#caller = caller;
    this.#prefix = `/public/exeunit/${activity}`;
  }

  /**
   * Starts a batch. `script` in the bus's form: bytes are numbers.
   * @returns its id
   */
  async exec(
    script: readonly Flex[],
    { batchId = newBatchId(), signal }: { batchId?: string; signal?: AbortSignal } = {},
  ): Promise<string> {
    const body = { activityId: this.activity, batchId, exeScript: script, timeout: null };
    const id = textOf(await this.#call('Exec', body, PROMPT, signal), 'the batch id');
    if (script.length === 0) this.#empty.add(id);
    return id;
  }

  /** Results of the commands that have ended. @throws {RpcError} `timeout` when `commandIndex` did not end in time */
  async results(batchId: string, options: ResultsOptions = {}): Promise<CommandResult[]> {
    const { timeout = null, commandIndex = null, signal } = options;
    const body = { activityId: this.activity, batchId, timeout, commandIndex };
    const deadline = Math.max(0, timeout ?? 0) * 1000 + MARGIN;
    return readResults(await this.#call('GetExecBatchResults', body, deadline, signal));
  }

  /** Waits for the end of a batch, however long it takes. @returns all of its results */
  async finished(batchId: string, signal?: AbortSignal): Promise<CommandResult[]> {
    for (;;) {
      const results = await this.results(batchId, { timeout: 60, signal });
      if (results.at(-1)?.isBatchFinished || this.#empty.has(batchId)) return results;
      signal?.throwIfAborted();
    }
  }

  /** Events of a batch as they come; how it begins and ends is the activity's business (4.8). */
  async *stream(
    batchId: string,
    { signal, deadline = STREAM, window }: { signal?: AbortSignal; deadline?: number; window?: number } = {},
  ): AsyncGenerator<RuntimeEvent> {
    // The one request with names in snake case.
    const body = { activity_id: this.activity, batch_id: batchId, window };
    const options = this.#options(deadline, signal);
    for await (const item of this.#gsb.stream(`${this.#prefix}/StreamExecBatchResults`, body, options)) {
      yield readRuntimeEvent(item);
    }
  }

  /**
   * Of a stream with a `window`, which only an exe-unit of this host's knows: so many bytes of output were taken since
   * its begin. Never rejects: where the answer is lost, the stream is too.
   */
  async taken(batchId: string, bytes: number): Promise<void> {
    const body = { activityId: this.activity, batchId, bytes };
    await this.#call('StreamTaken', body, PROMPT).catch(() => {});
  }

  async state(signal?: AbortSignal): Promise<ActivityState> {
    return readActivityState(await this.#ask('GetActivityState', signal));
  }

  async usage(signal?: AbortSignal): Promise<ActivityUsage> {
    return readActivityUsage(await this.#ask('GetActivityUsage', signal));
  }

  /** @throws {RpcError} `notFound` when nothing runs */
  async running(signal?: AbortSignal): Promise<RunningCommand[]> {
    return readRunning(await this.#ask('GetRunningCommand', signal));
  }

  #ask(message: string, signal?: AbortSignal): Promise<Flex> {
    return this.#call(message, { activityId: this.activity, timeout: null }, PROMPT, signal);
  }

  #call(message: string, body: Flex, deadline: number, signal?: AbortSignal): Promise<Flex> {
    return this.#gsb.call(`${this.#prefix}/${message}`, body, this.#options(deadline, signal));
  }

  #options(deadline: number, signal?: AbortSignal): CallOptions {
    return { deadline, signal, caller: this.#caller };
  }
}

/** As a requestor's yagna makes them: a UUID without dashes (4.2). */
export function newBatchId(): string {
  return randomUUID().replaceAll('-', '');
}
