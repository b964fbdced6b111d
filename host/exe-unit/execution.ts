/** Carries one command out through the runtime, and tells its batch what comes. */
import { deferred } from '../lib/deferred.ts';
import type { Batch, CommandRecord, Outcome } from './batch.ts';
import type { Clock } from './clock.ts';
import { programEnd, runtimeFailure, SUCCESS } from './outcome.ts';
import { ProgressGate } from './progress-gate.ts';
import type { ActivityRuntime, OutputSink, OutputSinks, ProgressReport } from './types.ts';

/** Milliseconds that the runtime has to end a command that was aborted; after it the command has ended all the same. */
const ABORT_GRACE = 5000;

export interface Execution {
  outcome: Outcome;
  /** The guest announced output that did not arrive. */
  incomplete: boolean;
}

/**
 * Runs a deploy, start, run or transfer. Never rejects, and ends soon after `signal` fires.
 */
export async function execute(
  runtime: ActivityRuntime,
  batch: Batch,
  record: CommandRecord,
  clock: Clock,
  signal: AbortSignal,
): Promise<Execution> {
  try {
    return await untilAborted(carryOut(runtime, batch, record, clock, signal), clock, signal);
  } catch (error) {
    return { outcome: runtimeFailure(record.command.kind, error), incomplete: false };
  }
}

async function carryOut(
  runtime: ActivityRuntime,
  batch: Batch,
  record: CommandRecord,
  clock: Clock,
  signal: AbortSignal,
): Promise<Execution> {
  const { command } = record;
  signal.throwIfAborted();
  if (command.kind === 'run') {
    const end = await runtime.run(command, sinksOf(batch, record), signal);
    return { outcome: programEnd(end), incomplete: end.complete === false };
  }
  if (command.kind === 'start') await runtime.start(command, sinksOf(batch, record), signal);
  if (command.kind === 'deploy' || command.kind === 'transfer') {
    const pass = (report: ProgressReport) => batch.progress(record, report);
    // Without the option nobody wants to know.
    const gate = command.progress && new ProgressGate(command.progress, clock, pass);
    const offer = (report: ProgressReport) => gate?.offer(report);
    try {
      if (command.kind === 'deploy') await runtime.deploy(command, offer, signal);
      else await runtime.transfer(command, offer, signal);
    } finally {
      gate?.end();
    }
  }
  return { outcome: SUCCESS, incomplete: false };
}

function sinksOf(batch: Batch, record: CommandRecord): OutputSinks {
  const sink = (stream: 'stdout' | 'stderr'): OutputSink | null =>
    record.captures[stream] ? (bytes) => batch.output(record, stream, bytes) : null;
  return { stdout: sink('stdout'), stderr: sink('stderr') };
}

/** Waits for `work`; when `signal` fires, only a while longer. A late rejection is not unhandled. */
async function untilAborted<T>(work: Promise<T>, clock: Clock, signal: AbortSignal): Promise<T> {
  const { promise: expired, reject } = deferred<never>();
  let cancel = () => {};
  const onAbort = () => {
    cancel = clock.after(ABORT_GRACE, () => reject(signal.reason));
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, expired]);
  } finally {
    cancel();
    signal.removeEventListener('abort', onAbort);
  }
}
