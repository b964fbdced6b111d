/** GetExecBatchResults: what a batch's finished commands gave (the spec's exe-unit.md, 4.7). */
import { type Flex, type FlexMap, RpcError } from '../gsb/types.ts';
import { type Batch, type CommandRecord, STREAMS } from './batch.ts';
import { type Clock, MAX_DELAY } from './clock.ts';

export interface ResultsRequest {
  /** Seconds; null, negative or not a number: none. */
  timeout: number | null;
  /** The command that is waited for; null: the last one. */
  index: number | null;
}

/**
 * Waits until the wanted command has ended, or one before it failed, or the batch ended, or the time is over.
 * @returns the commands that have ended, up to the wanted one
 * @throws {RpcError} timeout, when an index was given and neither that command nor a failure before it was seen
 */
export async function finishedCommands(
  batch: Batch,
  { index, timeout }: ResultsRequest,
  clock: Clock,
  signal: AbortSignal,
): Promise<CommandRecord[]> {
  if (batch.script.length === 0) return [];
  const target = targetOf(batch, index);
  const reached = () => isReached(batch, target);
  if (!reached()) await waitFor(batch, reached, milliseconds(timeout), clock, signal);
  if (index !== null && !reached()) throw new RpcError('timeout');
  return batch.records.filter((record) => record.end !== null && record.index <= target);
}

/**
 * The answer with these commands. Their output comes for all, or, with an index, for that command alone; `budget` is for
 * all outputs together, bytes on the bus. What does not fit is cut, and `message` says so.
 */
export async function commandResults(
  batch: Batch,
  index: number | null,
  finished: readonly CommandRecord[],
  budget: number,
): Promise<Flex> {
  const target = targetOf(batch, index);
  const results: Flex[] = [];
  let left = budget;
  for (const record of finished) {
    const last = batch.over && record.index === batch.records.length - 1;
    const shown = index === null || record.index === index ? await showOutputs(record, left) : NOTHING;
    left -= shown.encoded;
    results.push(resultOf(record, shown, record.index === target || last));
  }
  return results;
}

function targetOf({ script }: Batch, index: number | null): number {
  return index ?? script.length - 1;
}

/** The target has ended, or will never begin since a command before it failed or, with no index beyond the script, the batch was ended. */
function isReached(batch: Batch, target: number): boolean {
  const last = batch.records[batch.done - 1];
  if (last !== undefined && (last.index >= target || last.end?.returnCode !== 0)) return true;
  return batch.over && target < batch.script.length;
}

function milliseconds(seconds: number | null): number {
  if (seconds === null || !(seconds > 0)) return 0;
  return Math.min(Math.ceil(seconds * 1000), MAX_DELAY);
}

/** Resolves when `done()`, or when the time is over. @throws the signal's reason */
function waitFor(
  batch: Batch,
  done: () => boolean,
  time: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  if (time === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    let forget = () => {};
    const finish = (end: () => void) => {
      forget();
      cancel();
      signal.removeEventListener('abort', onAbort);
      end();
    };
    const look = () => {
      if (done()) finish(resolve);
      else forget = batch.onChange(look);
    };
    const onAbort = () => finish(() => reject(signal.reason));
    const cancel = clock.after(time, () => finish(resolve));
    signal.addEventListener('abort', onAbort, { once: true });
    look();
  });
}

interface Outputs {
  stdout: Flex;
  stderr: Flex;
  /** Bytes on the bus, about. */
  encoded: number;
  /** What is to be said about them. */
  remarks: string[];
}

const NOTHING: Outputs = { stdout: null, stderr: null, encoded: 0, remarks: [] };

async function showOutputs({ captures }: CommandRecord, budget: number): Promise<Outputs> {
  const outputs: Outputs = { ...NOTHING, remarks: [] };
  for (const stream of STREAMS) {
    const shown = await captures[stream]?.show(budget - outputs.encoded);
    if (shown === undefined) continue;
    outputs[stream] = shown.value;
    outputs.encoded += shown.encoded;
    if (shown.bytes < shown.of) outputs.remarks.push(`${stream}: ${shown.bytes} of ${shown.of} bytes`);
  }
  return outputs;
}

function resultOf({ index, end }: CommandRecord, outputs: Outputs, isLast: boolean): FlexMap {
  const { returnCode, message, time, incomplete } = end ?? NOT_ENDED;
  const remarks = message === null ? [] : [message];
  remarks.push(...outputs.remarks);
  if (incomplete) remarks.push('the output is not complete (YAVM_E_OUTPUT_INCOMPLETE)');
  return {
    index,
    result: returnCode === 0 ? 'Ok' : 'Error',
    stdout: outputs.stdout,
    stderr: outputs.stderr,
    message: remarks.length > 0 ? remarks.join('; ') : null,
    isBatchFinished: isLast || returnCode !== 0,
    eventDate: new Date(time).toISOString(),
  };
}

/** Only commands that have ended get here. */
const NOT_ENDED = { returnCode: -1, message: null, time: 0, incomplete: false };
