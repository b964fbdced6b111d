/**
 * Reports to the node: the state at each change, the usage each second. The node takes silence for death: Unresponsive
 * after 5 s without usage, destroyed after 10. Upstream ends the activity at the first report that fails; here a failed
 * report is only logged, and a lost bus costs nothing as long as it comes back. Facts: the spec's exe-unit.md, 4.4, 4.5.
 */
import { FlexInt, type FlexMap, type Gsb } from '../gsb/types.ts';
import { toError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { StatePair } from './types.ts';

/** What a report goes to: all that is needed of the bus. */
export type ReportBus = Pick<Gsb, 'state' | 'call' | 'onState'>;

export interface ReporterOptions {
  gsb: ReportBus;
  /** `/local/activity`. */
  reportUrl: string;
  activityId: string;
  /** The vector as of now, in the agreement's order; null: not to be reported any more (a limit was passed). */
  usage(): number[] | null;
  logger: Logger;
}

/** For a report: as long as the node waits before it calls the activity Unresponsive. Bounds the reports under way to 5. */
const DEADLINE = 5000;
/** Reports of usage that fail alike in a row are logged once in so many. */
const LOG_EACH = 60;

export class Reporter {
  readonly #options: ReporterOptions;
  readonly #forget: () => void;
  #state: StatePair | null = null;
  #lost = false;
  #silent = false;
  #failures = 0;
  #deadline = DEADLINE;

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#forget = options.gsb.onState((state) => {
      if (state === 'down') this.#lost = true;
      else if (state === 'up') this.#returned();
    });
  }

  /** From now on no report may take longer than that, milliseconds: the end does not wait for a node that hangs. */
  hurry(milliseconds: number): void {
    this.#deadline = milliseconds;
  }

  /** Nothing is reported any more: the activity is another process's. */
  silence(): void {
    this.#silent = true;
  }

  /** Ends what follows the bus. */
  close(): void {
    this.#forget();
  }

  /** Reports a state; resolves when the node has it, or when it cannot be told now. Never rejects. */
  async state(pair: StatePair, about: { reason?: string; errorMessage?: string } = {}): Promise<void> {
    this.#state = pair;
    // The node is told when it is back: a command does not wait for that.
    if (this.#lost || this.#silent) return;
    const state: FlexMap = { state: [...pair], reason: about.reason, errorMessage: about.errorMessage };
    try {
      await this.#call('SetActivityState', { state, timeout: null, credentials: null });
      this.#options.logger.debug({ state: stateText(pair) }, 'state reported');
    } catch (error) {
      this.#options.logger.warn(
        { err: toError(error), state: stateText(pair) },
        'the state was not reported',
      );
    }
  }

  /** Reports the usage; resolves when the node has it, or when that failed. Never rejects. */
  async usage(): Promise<void> {
    if (this.#lost || this.#silent) return;
    const values = this.#options.usage();
    if (values === null) return;
    const usage: FlexMap = {
      currentUsage: Float64Array.from(values),
      timestamp: new FlexInt(Math.floor(Date.now() / 1000)),
    };
    try {
      await this.#call('SetActivityUsage', { usage, timeout: null });
      if (this.#failures > 0) this.#options.logger.info({ after: this.#failures }, 'usage is reported again');
      this.#failures = 0;
    } catch (error) {
      const failures = this.#failures++;
      if (failures % LOG_EACH > 0) return;
      this.#options.logger.warn({ err: toError(error), failures }, 'the usage was not reported');
    }
  }

  /** The bus is back: usage at once, before the node's patience ends, then what the state is by now. */
  #returned(): void {
    if (!this.#lost) return;
    this.#lost = false;
    void this.usage();
    if (this.#state) void this.state(this.#state);
  }

  async #call(message: string, body: FlexMap): Promise<void> {
    const { gsb, reportUrl, activityId } = this.#options;
    await gsb.call(`${reportUrl}/${message}`, { activityId, ...body }, { deadline: this.#deadline });
  }
}

/** `Deployed → Ready`. */
function stateText([current, pending]: StatePair): string {
  return pending === null ? current : `${current} → ${pending}`;
}
