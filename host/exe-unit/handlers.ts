/** What a requestor can ask of an activity: six addresses below `/public/exeunit/<id>`. Facts: the spec's exe-unit.md, 4. */
import { type Binding, type CallInfo, type Flex, FlexInt, type FlexMap, RpcError } from '../gsb/types.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { Activity } from './activity.ts';
import { Pace } from './pace.ts';
import { parseScript } from './script.ts';

export interface HandlerParts {
  activityId: string;
  activity: Pick<Activity, 'state' | 'exec' | 'results' | 'stream' | 'running'>;
  /** The vector as of now. @throws {RpcError} usageLimitExceeded */
  usage(): number[];
  /** Streams take a window, and StreamTaken is bound: see pace.ts. For an activity whose requestor is this host's. */
  paced?: boolean;
  logger: Logger;
}

/** Longest wait for results, seconds: beyond a day nobody waits, and timers end at 24 days. */
const MAX_TIMEOUT = 86_400;

/** Prefix of the addresses. */
export function addressOf(activityId: string): string {
  return `/public/exeunit/${activityId}`;
}

/** The bindings by message id. */
export function handlersFor(parts: HandlerParts): Record<string, Binding> {
  const { activityId, activity, usage, logger, paced = false } = parts;
  /** Of streams that run, by batch. */
  const paces = new Map<string, Pace>();
  /** A unary handler behind the check of the activity's id. */
  const unary = (answer: (body: FlexMap, call: CallInfo) => Promise<Flex> | Flex): Binding => ({
    unary: (body, call) => {
      const fields = fieldsOf(body);
      checkActivity(fields.activityId, activityId);
      return answer(fields, call);
    },
  });
  return {
    GetActivityState: unary(() => ({ state: [...activity.state] })),
    GetActivityUsage: unary(() => ({
      currentUsage: Float64Array.from(usage()),
      timestamp: new FlexInt(Math.floor(Date.now() / 1000)),
    })),
    Exec: unary(({ batchId, exeScript }, { caller }) => {
      const id = text(batchId, 'batchId');
      const script = parseScript(exeScript ?? null);
      activity.exec(id, script);
      logger.info({ batch: id, commands: script.length, caller }, 'batch accepted');
      return id;
    }),
    GetExecBatchResults: unary(({ batchId, timeout, commandIndex }, { signal, room }) =>
      activity.results(text(batchId, 'batchId'), readTimeout(timeout), readIndex(commandIndex), signal, room),
    ),
    GetRunningCommand: unary(() => activity.running()),
    StreamExecBatchResults: {
      stream: (body, { signal }) => {
        // The one message whose fields are not in camel case.
        const { activity_id, batch_id, window } = fieldsOf(body);
        if (activity_id !== activityId) {
          throw new Error(`Bad request: Remote service error: ${forbidden(activity_id)}`);
        }
        const batch = text(batch_id, 'batch_id');
        if (!paced || typeof window !== 'number') return activity.stream(batch, signal);
        const pace = new Pace(window);
        paces.set(batch, pace);
        return pace.follow(activity.stream(batch, signal, true), signal);
      },
    },
    ...(paced ? { StreamTaken: unary((fields) => streamTaken(paces, fields)) } : {}),
  };
}

/** The subscriber's word on how much it has taken. */
function streamTaken(paces: ReadonlyMap<string, Pace>, { batchId, bytes }: FlexMap): Flex {
  const pace = paces.get(text(batchId, 'batchId'));
  if (typeof bytes !== 'number')
    throw new YavmError('YAVM_E_GSB_BODY', "the message has no number in 'bytes'");
  pace?.taken(bytes);
  return null;
}

function fieldsOf(body: Flex): FlexMap {
  const isMap =
    typeof body === 'object' && body !== null && !Array.isArray(body) && !ArrayBuffer.isView(body);
  if (isMap) return body as FlexMap;
  throw new YavmError('YAVM_E_GSB_BODY', 'the message is not a map');
}

function text(value: Flex | undefined, field: string): string {
  if (typeof value === 'string') return value;
  throw new YavmError('YAVM_E_GSB_BODY', `the message has no text in '${field}'`);
}

function checkActivity(given: Flex | undefined, own: string): void {
  if (given !== own) throw new RpcError('service', forbidden(given));
}

function forbidden(given: Flex | undefined): string {
  return `Forbidden! Invalid activity id: ${typeof given === 'string' ? given : ''}`;
}

/** Seconds to wait; null: not at all. What no clock can count (negative, NaN) is no wait, what none outlives a day. */
export function readTimeout(value: Flex | undefined): number | null {
  if (value === null || value === undefined) return null;
  const seconds = typeof value === 'bigint' ? Number(value) : value;
  if (typeof seconds !== 'number') throw new YavmError('YAVM_E_GSB_BODY', "'timeout' is no number");
  return seconds > 0 ? Math.min(seconds, MAX_TIMEOUT) : 0;
}

/** Index of a command; null: none given. One that no script has is a number like any other, and is never reached. */
export function readIndex(value: Flex | undefined): number | null {
  if (value === null || value === undefined) return null;
  const index = typeof value === 'bigint' ? Number(value) : value;
  if (typeof index === 'number' && Number.isInteger(index) && index >= 0) return index;
  throw new YavmError('YAVM_E_GSB_BODY', "'commandIndex' is no index");
}
