/** One activity: its state, its batches, and what a requestor may ask about them. */
import { type Flex, RpcError } from '../gsb/types.ts';
import type { Logger } from '../lib/logger.ts';
import type { Clock } from './clock.ts';
import type { ScriptRules } from './manifest.ts';
import type { ActivityRuntime, ScriptCommand, StatePair } from './types.ts';

export interface ActivityLimits {
  /** Bytes of one output stream that a result carries; default 32 MiB. */
  captured: number;
  /** Bytes of all outputs in one answer, as encoded; default 62 MiB. */
  answer: number;
  /** Bytes of output on disk, of all commands; default 2 GiB. */
  spool: number;
}

export interface ActivityOptions {
  id: string;
  /** Where spool files go; made when missing, emptied at the end. */
  folder: string;
  runtime: ActivityRuntime;
  /** From the manifest; null: everything is allowed. */
  rules: ScriptRules | null;
  /** Tells the node; awaited before a command begins and before it ends. Must never reject, and never wait for ever. */
  reportState(pair: StatePair): Promise<void>;
  limits?: Partial<ActivityLimits>;
  logger: Logger;
  clock?: Clock;
}

/** What was done and what was not, as the last report's reason says it (4.12). */
export interface ShutdownCounts {
  batches_done: number;
  batches_pending: number;
  cmds_done: number;
  cmds_pending: number;
}

export class Activity {
  readonly id: string;
  readonly #options: ActivityOptions;
  #state: StatePair = ['New', null];

  constructor(options: ActivityOptions) {
    this.id = options.id;
    this.#options = options;
  }

  get state(): StatePair {
    return this.#state;
  }

  /** Start-up is over: New → Initialized, reported. */
  async initialized(): Promise<void> {
    this.#state = ['Initialized', null];
    await this.#options.reportState(this.#state);
  }

  /** Takes a batch and begins it in the background. @throws {RpcError} badRequest: id known, script not allowed; service: too much at once, or terminated */
  exec(_batchId: string, _script: readonly ScriptCommand[]): void {
    throw new RpcError('service', 'not yet');
  }

  /**
   * Answer of GetExecBatchResults, once the wanted command or the batch has ended, or the time is over (null: at once).
   * @throws {RpcError} notFound; timeout, when a command's index was given; badRequest
   */
  async results(
    batchId: string,
    _timeoutSeconds: number | null,
    _commandIndex: number | null,
    _signal: AbortSignal,
  ): Promise<Flex> {
    throw new RpcError('notFound', `batch_id = ${batchId}`);
  }

  /** Items of StreamExecBatchResults, ending with the batch. @throws {Error} at once: `Bad request: Unknown batch: <id>` */
  stream(batchId: string, _signal: AbortSignal): AsyncIterable<Flex> {
    throw new Error(`Bad request: Unknown batch: ${batchId}`);
  }

  /** Answer of GetRunningCommand. @throws {RpcError} notFound */
  running(): Flex {
    throw new RpcError('notFound', `No running command within activity: ${this.id}`);
  }

  /**
   * Reports [current, Terminated], stops everything within `milliseconds` and removes the spool. The last report,
   * [Terminated, null] with its reason, is the caller's. What waits for results or a stream is not answered: closing
   * the bus does that, with upstream's text. A second call joins the first.
   */
  async shutdown(_milliseconds: number): Promise<ShutdownCounts> {
    this.#state = ['Terminated', null];
    return { batches_done: 0, batches_pending: 0, cmds_done: 0, cmds_pending: 0 };
  }
}
