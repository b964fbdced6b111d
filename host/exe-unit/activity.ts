/**
 * One activity: its state, its batches, and what a requestor may ask about them (the spec's exe-unit.md, section 4).
 *
 * Batches run beside each other; one command at a time changes the state. Batches that are over are kept for their
 * results until there are too many or too large ones: then the oldest is forgotten, as if it had never been.
 */
import { join } from 'node:path';
import { type Flex, RpcError } from '../gsb/types.ts';
import { withDeadline } from '../lib/deadline.ts';
import { toError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { Batch, type CommandRecord, type Outcome, STREAMS } from './batch.ts';
import { capturesOf, OutputCapture } from './capture.ts';
import { type Clock, systemClock } from './clock.ts';
import { streamEvents } from './events.ts';
import { type Execution, execute } from './execution.ts';
import { checkScript, type ScriptRules } from './manifest.ts';
import { failure, SIGN_UNSUPPORTED, STOPPED, SUCCESS } from './outcome.ts';
import { commandResults, finishedCommands } from './results.ts';
import { runningCommands } from './running.ts';
import { scriptSize } from './script.ts';
import { SpoolStore } from './spool-store.ts';
import { changedUnder, refusal, samePair, TRANSITIONS } from './state.ts';
import { Turns } from './turns.ts';
import type { ActivityRuntime, ScriptCommand, StatePair } from './types.ts';

export interface ActivityLimits {
  /** Bytes of one output stream that a result carries. */
  captured: number;
  /** Bytes of all outputs in one answer, as encoded: a packet holds 64 MiB. */
  answer: number;
  /** Bytes of output on disk, of all commands; see spool-store.ts. */
  spool: number;
  /** Batches that are kept, and those of them that are not over. */
  batches: number;
  running: number;
  /** Bytes of all batches together in memory, without outputs. */
  scripts: number;
  /** Calls that wait for results, and streams of one batch, at a time. */
  waiting: number;
}

const MIB = 1024 * 1024;

const LIMITS: ActivityLimits = {
  captured: 32 * MIB,
  answer: 62 * MIB,
  spool: 2048 * MIB,
  batches: 1000,
  running: 64,
  scripts: 64 * MIB,
  waiting: 1000,
};

/** Milliseconds that `terminate` gives the VM (4.3), and those that it then waits at most. */
const STOP_GRACE = 5000;
const STOP_DEADLINE = STOP_GRACE + 1000;
/** Part of a shutdown's time that the first report may take. */
const REPORT_SHARE = 0.25;

export interface ActivityOptions {
  id: string;
  /** The activity's own; `spool` is made in it when it is needed, and removed at the end. */
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
  readonly #runtime: ActivityRuntime;
  readonly #rules: ScriptRules | null;
  readonly #report: (pair: StatePair) => Promise<void>;
  readonly #limits: ActivityLimits;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #spools: SpoolStore;
  /** Oldest first. */
  readonly #batches = new Map<string, Batch>();
  /** How to abort the command under way, by batch. */
  readonly #aborts = new Map<Batch, AbortController>();
  readonly #loops = new Set<Promise<void>>();
  readonly #answers = new Turns();
  #state: StatePair = ['New', null];
  /** The `terminate` under way, until the state is Initialized. */
  #terminating: Promise<void> | null = null;
  #shutdown: Promise<ShutdownCounts> | null = null;
  #waiting = 0;

  constructor(options: ActivityOptions) {
    this.id = options.id;
    this.#runtime = options.runtime;
    this.#rules = options.rules;
    this.#report = (pair) => options.reportState(pair);
    this.#limits = { ...LIMITS, ...options.limits };
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#spools = new SpoolStore({
      folder: join(options.folder, 'spool'),
      limit: this.#limits.spool,
      logger: options.logger,
    });
  }

  get state(): StatePair {
    return this.#state;
  }

  /** Start-up is over: New → Initialized, reported. */
  async initialized(): Promise<void> {
    if (this.#state[0] === 'New' && this.#state[1] === null) await this.#change(['Initialized', null]);
  }

  /**
   * Takes a batch and begins it in the background.
   * @throws {RpcError} badRequest: the id is known, or the manifest does not allow the script; service: too many
   *   batches at once, or the activity is over
   */
  exec(batchId: string, script: readonly ScriptCommand[]): void {
    const over = refusal(this.#state, 'terminate');
    if (over !== null) throw new RpcError('service', `${over} (YAVM_E_TERMINATED)`);
    if (this.#batches.has(batchId)) throw new RpcError('badRequest', `Batch ${batchId} already exists`);
    if (this.#rules) checkScript(this.#rules, script);
    const size = scriptSize(script);
    this.#makeRoom(size);
    const batch = new Batch(batchId, script, size, this.#clock);
    this.#batches.set(batchId, batch);
    // Not in this turn: the answer to Exec goes out before the first report.
    const loop = new Promise<void>((resolve) => setImmediate(resolve))
      .then(() => this.#run(batch))
      .catch((error) => this.#logger.error({ batch: batchId, err: toError(error) }, 'a batch broke off'))
      .finally(() => {
        batch.ended();
        this.#loops.delete(loop);
      });
    this.#loops.add(loop);
  }

  /**
   * Answer of GetExecBatchResults, once the wanted command or the batch has ended, or the time is over (null: at once).
   * @throws {RpcError} notFound; timeout, when a command's index was given; badRequest; service: too many wait already.
   *   The signal's reason.
   * @param room Resolves when the last answer is on its way: no other is made before, they are large.
   */
  async results(
    batchId: string,
    timeoutSeconds: number | null,
    commandIndex: number | null,
    signal: AbortSignal,
    room: () => Promise<void> = async () => {},
  ): Promise<Flex> {
    const batch = this.#batches.get(batchId);
    if (batch === undefined) throw new RpcError('notFound', `batch_id = ${batchId}`);
    if (commandIndex !== null && !(Number.isSafeInteger(commandIndex) && commandIndex >= 0)) {
      throw new RpcError('badRequest', `commandIndex = ${commandIndex} (YAVM_E_INDEX)`);
    }
    const request = { timeout: timeoutSeconds, index: commandIndex };
    const leave = this.#enter();
    try {
      const finished = await finishedCommands(batch, request, this.#clock, signal);
      return await this.#answers.take(room, async () => {
        signal.throwIfAborted();
        return await commandResults(batch, commandIndex, finished, this.#limits.answer);
      });
    } finally {
      leave();
    }
  }

  /**
   * Items of StreamExecBatchResults, ending with the batch. `patient`: the subscriber may take nothing for as long as it
   * likes. @throws {Error} at once: `Bad request: Unknown batch: <id>`
   */
  stream(batchId: string, signal: AbortSignal, patient: boolean = false): AsyncIterable<Flex> {
    const batch = this.#batches.get(batchId);
    if (batch === undefined) throw new Error(`Bad request: Unknown batch: ${batchId}`);
    if (batch.watchers >= this.#limits.waiting) {
      throw new RpcError('service', 'too many streams of this batch (YAVM_E_BATCH_LIMIT)');
    }
    return streamEvents(batch, this.#clock, signal, patient ? Number.POSITIVE_INFINITY : undefined);
  }

  /** Answer of GetRunningCommand. @throws {RpcError} notFound */
  running(): readonly Flex[] {
    const commands = runningCommands(this.#batches.values());
    if (commands.length > 0) return commands;
    throw new RpcError('notFound', `No running command within activity: ${this.id}`);
  }

  /**
   * Reports [current, Terminated], stops everything within `milliseconds` and removes the spool. The last report,
   * [Terminated, null] with its reason, is the caller's. What waits for results or a stream is not answered: closing
   * the bus does that, with upstream's text. A second call joins the first.
   */
  shutdown(milliseconds: number): Promise<ShutdownCounts> {
    this.#shutdown ??= this.#end(milliseconds);
    return this.#shutdown;
  }

  // ---------------------------------------------------------------- batches

  async #run(batch: Batch): Promise<void> {
    for (const command of batch.script) {
      if (batch.frozen) return;
      const record = batch.started(command, this.#captures(command));
      // Its commands that were to follow are not told of; but a batch must not end without saying that it failed.
      const { outcome, incomplete } = batch.stopping ? ended(STOPPED) : await this.#perform(batch, record);
      batch.finished(record, outcome, incomplete);
      this.#logger.debug(
        { batch: batch.id, index: record.index, kind: command.kind, ...outcome },
        'command ended',
      );
      if (outcome.returnCode !== 0) return;
    }
  }

  async #perform(batch: Batch, record: CommandRecord): Promise<Execution> {
    const { kind } = record.command;
    // What a terminate is about to end must not begin.
    if (kind !== 'terminate') await this.#terminating;
    const refused = refusal(this.#state, kind);
    if (refused !== null) return ended(failure(refused));
    if (kind === 'sign') return ended(SIGN_UNSUPPORTED);
    if (kind === 'terminate') return ended(await this.#terminate(batch));
    return this.#transition(batch, record);
  }

  /** A command that changes the state: it does so whether it succeeds or fails. */
  async #transition(batch: Batch, record: CommandRecord): Promise<Execution> {
    const [from] = this.#state;
    const to = TRANSITIONS[record.command.kind]?.[from];
    if (to === undefined) return ended(failure(`Runtime error: ${record.command.kind}: not known`));
    const during: StatePair = [from, to];
    const abort = new AbortController();
    this.#aborts.set(batch, abort);
    try {
      await this.#change(during);
      const execution = await execute(this.#runtime, batch, record, this.#clock, abort.signal);
      // Its result is the one of the state that the terminate leaves.
      await this.#terminating;
      // The very pair, not an equal one of a later command.
      if (this.#state !== during) {
        return { ...execution, outcome: failure(changedUnder(this.#state, during)) };
      }
      await this.#change([to, null]);
      return execution;
    } finally {
      this.#aborts.delete(batch);
    }
  }

  /** Stops the other batches and the VM; back to Initialized. */
  async #terminate(own: Batch): Promise<Outcome> {
    if (this.#terminating === null) {
      this.#terminating = this.#stopAll(own).finally(() => {
        this.#terminating = null;
      });
    }
    await this.#terminating;
    return SUCCESS;
  }

  async #stopAll(own: Batch): Promise<void> {
    for (const batch of this.#batches.values()) {
      if (batch === own || batch.over) continue;
      batch.stop();
      this.#aborts.get(batch)?.abort(new Error('terminated'));
    }
    await this.#stopRuntime(STOP_GRACE, STOP_DEADLINE);
    if (this.#state[0] === 'Terminated' || this.#state[1] === 'Terminated') return;
    await this.#change(['Initialized', null]);
  }

  async #stopRuntime(grace: number, deadline: number): Promise<void> {
    try {
      await withDeadline(this.#runtime.stop(grace), deadline, 'the runtime');
    } catch (error) {
      this.#logger.warn({ err: toError(error) }, 'the runtime did not stop in order');
    }
  }

  /** Reported, unless it is what it was. */
  async #change(pair: StatePair): Promise<void> {
    const same = samePair(this.#state, pair);
    this.#state = pair;
    if (!same) await this.#report(pair);
  }

  #captures(command: ScriptCommand): CommandRecord['captures'] {
    const captures: CommandRecord['captures'] = {};
    const wanted = capturesOf(command);
    for (const stream of STREAMS) {
      const capture = wanted[stream];
      if (capture) captures[stream] = new OutputCapture(capture, this.#limits.captured, this.#spools);
    }
    return captures;
  }

  /** Forgets the oldest batches that are over, as many as it takes. @throws {RpcError} service when that is not enough */
  #makeRoom(size: number): void {
    const { batches, running, scripts } = this.#limits;
    let kept = size;
    let active = 1;
    for (const batch of this.#batches.values()) {
      kept += batch.size;
      if (!batch.over) active++;
    }
    for (const [id, batch] of this.#batches) {
      if (this.#batches.size < batches && kept <= scripts) break;
      if (!batch.over || batch.watchers > 0) continue;
      this.#batches.delete(id);
      kept -= batch.size;
      for (const { captures } of batch.records) {
        for (const { spool } of Object.values(captures)) this.#spools.remove(spool);
      }
    }
    if (this.#batches.size >= batches || kept > scripts || active > running) {
      throw new RpcError('service', 'too many batches, or too large ones, at once (YAVM_E_BATCH_LIMIT)');
    }
  }

  #enter(): () => void {
    if (this.#waiting >= this.#limits.waiting) {
      throw new RpcError('service', 'too many calls wait for results (YAVM_E_BATCH_LIMIT)');
    }
    this.#waiting++;
    return () => {
      this.#waiting--;
    };
  }

  // ---------------------------------------------------------------- end

  async #end(milliseconds: number): Promise<ShutdownCounts> {
    const deadline = this.#clock.now() + milliseconds;
    const counts = countsOf(this.#batches.values());
    for (const batch of this.#batches.values()) {
      batch.freeze();
      batch.stop();
    }
    const report = this.#change([this.#state[0], 'Terminated']);
    await within(report, milliseconds * REPORT_SHARE, 'the activity service', this.#logger);
    for (const abort of this.#aborts.values()) abort.abort(new Error('the activity ends'));
    const left = () => Math.max(0, deadline - this.#clock.now());
    await this.#stopRuntime(left(), left());
    await within(Promise.all(this.#loops), left(), 'the commands', this.#logger);
    this.#state = ['Terminated', null];
    await within(this.#spools.close(), left(), 'the disk', this.#logger);
    return counts;
  }
}

const ended = (outcome: Outcome): Execution => ({ outcome, incomplete: false });

function countsOf(batches: Iterable<Batch>): ShutdownCounts {
  const counts = { batches_done: 0, batches_pending: 0, cmds_done: 0, cmds_pending: 0 };
  for (const { done, script } of batches) {
    counts.cmds_done += done;
    counts.cmds_pending += script.length - done;
    if (done === script.length) counts.batches_done++;
    else counts.batches_pending++;
  }
  return counts;
}

/** Waits for `work` while there is time; what it does not manage is logged. */
async function within(
  work: Promise<unknown>,
  milliseconds: number,
  what: string,
  logger: Logger,
): Promise<void> {
  try {
    await withDeadline(work, milliseconds, what);
  } catch (error) {
    logger.warn({ err: toError(error) }, 'the activity ends without waiting any longer');
  }
}
