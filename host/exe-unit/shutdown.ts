/**
 * The end of an activity: why, and in which order. The provider kills this process 5 s after its SIGTERM, so everything
 * has a share of 3.5 s, and what does not manage is left to the kernel: QEMU dies with us. Facts: 4.12 of the spec.
 */
import { constants } from 'node:os';
import { sleep, withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { describeError, toError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { Activity, ShutdownCounts } from './activity.ts';

/** Why the activity ends, as the requestor reads it. The first reason stands; later ones change nothing. */
export class Ending {
  readonly #asked = deferred<string>();
  #why: string | null = null;
  #foreign = false;

  /** Ends the activity because of `why`. `foreign`: it is another process's activity, which goes on. */
  ask(why: string, { foreign = false } = {}): void {
    if (this.#why !== null) return;
    this.#why = why;
    this.#foreign = foreign;
    this.#asked.resolve(why);
  }

  /** Whether the node is not to be told of the end. */
  get foreign(): boolean {
    return this.#foreign;
  }

  get asked(): boolean {
    return this.#why !== null;
  }

  /** Resolves with the reason. */
  get reason(): Promise<string> {
    return this.#asked.promise;
  }
}

/** Upstream's, and HUP: a `from-file` on a terminal that is closed. */
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGABRT', 'SIGHUP'] as const;

/** Signals, and errors that nobody caught, end the activity in order. Returns how to stop watching. */
export function watchProcess(ending: Ending, logger: Logger): () => void {
  const onSignal = (name: NodeJS.Signals) => {
    logger.info({ signal: name, again: ending.asked }, 'signal');
    ending.ask(`Interrupted by signal: ${constants.signals[name]}`);
  };
  const onError = (error: unknown) => {
    logger.fatal({ err: toError(error) }, 'unexpected error');
    ending.ask(`Unexpected error: ${describeError(error)} (YAVM_E_INTERNAL)`);
  };
  // The command line's own handler would end the process at once, without a report.
  const before = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', onError);
  for (const name of SIGNALS) process.on(name, onSignal);
  return () => {
    for (const name of SIGNALS) process.off(name, onSignal);
    process.off('uncaughtException', onError);
    for (const listener of before) process.on('uncaughtException', listener);
  };
}

export interface EndParts {
  activity: Pick<Activity, 'shutdown'>;
  /** Ends the VM at once, when it does not end in order. */
  kill(): Promise<void>;
  /** Null: nobody to report to. */
  reporter: EndReporter | null;
  /** Answers what is open on the bus, and leaves it. */
  leave(): Promise<void>;
  logger: Logger;
}

export interface EndReporter {
  /** From now on no report may take longer than that. */
  hurry(milliseconds: number): void;
  /** The last vector. */
  usage(): Promise<void>;
  state(pair: readonly ['Terminated', null], about: { reason: string }): Promise<void>;
  close(): void;
}

/** Milliseconds for each step. In all 3.6 s at most; the provider kills at 5. */
const REPORT = 400;
const ACTIVITY = 2000;
/** `ACTIVITY`, and the report before it. */
const ACTIVITY_DEADLINE = 2500;
const KILL = 300;
const LEAVE = 300;

const NOTHING_COUNTED: ShutdownCounts = {
  batches_done: 0,
  batches_pending: 0,
  cmds_done: 0,
  cmds_pending: 0,
};

/**
 * Ends the activity: the VM is stopped, in order if it manages; the last usage and [Terminated, null] are reported; the
 * bus is left. Never fails: what does not work is logged.
 */
export async function endActivity(why: string, parts: EndParts): Promise<void> {
  const { activity, reporter, logger } = parts;
  logger.info({ why }, 'the activity ends');
  reporter?.hurry(REPORT);
  const counts = await attempt(activity.shutdown(ACTIVITY), ACTIVITY_DEADLINE, 'the activity to end', logger);
  if (counts === null) await attempt(parts.kill(), KILL, 'the VM to be gone', logger);
  await reporter?.usage();
  await reporter?.state(['Terminated', null], { reason: finalReason(why, counts ?? NOTHING_COUNTED) });
  reporter?.close();
  await attempt(parts.leave(), LEAVE, 'the bus to be left', logger);
}

/** `Interrupted by signal: 15: {"batches_done":0,…}`; the counters in the order that upstream has. */
export function finalReason(why: string, counts: ShutdownCounts): string {
  const { batches_done, batches_pending, cmds_done, cmds_pending } = counts;
  return `${why}: ${JSON.stringify({ batches_done, batches_pending, cmds_done, cmds_pending })}`;
}

/** Null: it failed, or took too long. */
async function attempt<T>(
  work: Promise<T>,
  milliseconds: number,
  what: string,
  logger: Logger,
): Promise<T | null> {
  try {
    return await withDeadline(work, milliseconds, what);
  } catch (error) {
    logger.warn({ err: toError(error) }, `gave up waiting for ${what}`);
    return null;
  }
}

/** Everything at the end together, milliseconds: also what has no deadline of its own, as a disk that hangs. */
export const END_DEADLINE = 3800;

/** Runs `end`, and goes on without it at the deadline. */
export async function endInTime(end: Promise<void>): Promise<boolean> {
  const over = new AbortController();
  const late = sleep(END_DEADLINE, over.signal).then(
    () => false,
    () => true,
  );
  try {
    return await Promise.race([end.then(() => true), late]);
  } finally {
    // Nobody is kept by a timer that nobody waits for.
    over.abort();
  }
}
