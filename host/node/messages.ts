/** Messages of the activity protocol as the node and a requestor see them (exe-unit.md 4.2): wire form → checked values. */
import type { Flex } from '../gsb/types.ts';
import {
  badMessage,
  flagOf,
  listOf,
  mapOf,
  numberOf,
  numbersOf,
  optionalText,
  outputOf,
  textOf,
  variantOf,
} from './decode.ts';

/** `Unresponsive` is never reported: the node writes it (4.3). */
export const STATES = ['New', 'Initialized', 'Deployed', 'Ready', 'Terminated', 'Unresponsive'] as const;
export type StateName = (typeof STATES)[number];
/** Current and pending. */
export type StatePair = readonly [StateName, StateName | null];

export interface ActivityState {
  state: StatePair;
  reason?: string;
  errorMessage?: string;
}

export interface ActivityUsage {
  /** In the agreement's order; null: nothing counted yet. */
  current: number[] | null;
  /** Seconds since 1970, of the sender's clock. */
  timestamp: number;
}

export type CommandOutput = string | Uint8Array;

/** One entry of GetExecBatchResults. */
export interface CommandResult {
  index: number;
  ok: boolean;
  stdout: CommandOutput | null;
  stderr: CommandOutput | null;
  message: string | null;
  isBatchFinished: boolean;
  eventDate: string;
}

/** One item of StreamExecBatchResults. */
export type RuntimeEvent = {
  batchId: string;
  /** Of the command in its script. */
  index: number;
  /** Without a zone; UTC. */
  timestamp: string;
} & (
  | { kind: 'started'; command: Flex }
  | { kind: 'finished'; returnCode: number; message: string | null }
  | { kind: 'stdout' | 'stderr'; output: CommandOutput }
  | {
      kind: 'progress';
      step: readonly [number, number];
      message: string | null;
      /** Done and, where known, in all. */
      progress: readonly [number, number | null];
      unit: string | null;
    }
);

/** One entry of GetRunningCommand. */
export interface RunningCommand {
  command: string;
  progress?: string;
  params?: string[];
}

/** Counters in a vector at most; agreements have up to ten. */
const MAX_COUNTERS = 64;

export function readActivityState(value: Flex | undefined): ActivityState {
  const map = mapOf(value, 'state');
  const pair = listOf(map.state, 'the pair of states');
  if (pair.length !== 2) throw badMessage('the pair of states has not two elements');
  const [current, pending] = pair;
  return {
    state: [stateName(current), pending === null ? null : stateName(pending)],
    reason: optionalText(map.reason, 'reason'),
    errorMessage: optionalText(map.errorMessage, 'errorMessage'),
  };
}

function stateName(value: Flex | undefined): StateName {
  const found = STATES.find((name) => name === value);
  if (!found) throw badMessage('a state has no known name');
  return found;
}

export function readActivityUsage(value: Flex | undefined): ActivityUsage {
  const map = mapOf(value, 'usage');
  const given = map.currentUsage ?? null;
  const current = given === null ? null : numbersOf(given, 'currentUsage');
  if (current && current.length > MAX_COUNTERS) throw badMessage('currentUsage has too many counters');
  if (current?.some((each) => !Number.isFinite(each))) throw badMessage('currentUsage holds what cannot be');
  return { current, timestamp: numberOf(map.timestamp, 'timestamp') };
}

export function readResults(value: Flex): CommandResult[] {
  return listOf(value, 'results').map((each) => {
    const map = mapOf(each, 'a result');
    return {
      index: numberOf(map.index, 'index'),
      ok: textOf(map.result, 'result') === 'Ok',
      stdout: outputOf(map.stdout, 'stdout'),
      stderr: outputOf(map.stderr, 'stderr'),
      message: optionalText(map.message, 'message') ?? null,
      isBatchFinished: flagOf(map.isBatchFinished, 'isBatchFinished'),
      eventDate: textOf(map.eventDate, 'eventDate'),
    };
  });
}

export function readRuntimeEvent(value: Flex): RuntimeEvent {
  const map = mapOf(value, 'an event');
  const common = {
    batchId: textOf(map.batch_id, 'batch_id'),
    index: numberOf(map.index, 'index'),
    timestamp: textOf(map.timestamp, 'timestamp'),
  };
  const { name, content } = variantOf(map.kind, 'kind');
  switch (name) {
    case 'started':
      return { ...common, kind: name, command: mapOf(content, 'started').command ?? null };
    case 'finished': {
      const end = mapOf(content, 'finished');
      return {
        ...common,
        kind: name,
        returnCode: numberOf(end.return_code, 'return_code'),
        message: optionalText(end.message, 'message') ?? null,
      };
    }
    case 'stdout':
    case 'stderr':
      return { ...common, kind: name, output: outputOf(content, name) ?? '' };
    case 'progress':
      return { ...common, kind: name, ...readProgress(content) };
    default:
      throw badMessage(`there is no kind of event '${name.slice(0, 40)}'`);
  }
}

function readProgress(content: Flex) {
  const map = mapOf(content, 'progress');
  const [step = 0, steps = 0] = numbersOf(map.step, 'step');
  const [done, total = null] = listOf(map.progress, 'progress');
  return {
    step: [step, steps] as const,
    message: optionalText(map.message, 'message') ?? null,
    progress: [numberOf(done, 'progress'), total === null ? null : numberOf(total, 'the total')] as const,
    unit: optionalText(map.unit, 'unit') ?? null,
  };
}

export function readRunning(value: Flex): RunningCommand[] {
  return listOf(value, 'running commands').map((each) => {
    const map = mapOf(each, 'a running command');
    const params = map.params ?? null;
    return {
      command: textOf(map.command, 'command'),
      progress: optionalText(map.progress, 'progress'),
      params:
        params === null ? undefined : listOf(params, 'params').map((word) => textOf(word, 'a parameter')),
    };
  });
}

/** Who asks the identity service for what: the default identity, or one by its id or name. */
export function readIdentityQuery(value: Flex): { by: 'default' } | { by: 'id' | 'alias'; text: string } {
  const { name, content } = variantOf(value, 'the identity query');
  if (name === 'byDefault') return { by: 'default' };
  if (name === 'byNodeId') return { by: 'id', text: textOf(content, name) };
  if (name === 'byAlias') return { by: 'alias', text: textOf(content, name) };
  throw badMessage(`there is no identity query '${name.slice(0, 40)}'`);
}
