/**
 * The node's side of an activity: takes reports of state and usage (exe-unit.md 4.2, 4.4), and judges by the silence
 * between two usage reports whether the supervisor still lives (4.5).
 */
import { type CallInfo, type Flex, type Gsb, RpcError } from '../gsb/types.ts';
import { withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';
import { type Clock, systemClock } from './clock.ts';
import { mapOf, textOf } from './decode.ts';
import { readActivityState, readActivityUsage, type StatePair } from './messages.ts';
import { REPORT_ADDRESS } from './supervisor-process.ts';

/** What happened. `time` is the service's own clock: a supervisor's is not believed, as yagna does not either. */
export type ActivityEvent = { activity: string; time: number } & (
  | { kind: 'state'; state: StatePair; reason?: string; errorMessage?: string }
  | { kind: 'usage'; usage: number[] | null; timestamp: number }
  | { kind: 'unresponsive'; silent: number }
  | { kind: 'responsive'; state: StatePair }
  | { kind: 'dead'; silent: number }
);

/** What the service knows of an activity. */
export interface ActivityRecord {
  readonly activity: string;
  /** As yagna would tell it: Unresponsive while the supervisor is silent. */
  readonly state: StatePair;
  readonly reason?: string;
  readonly errorMessage?: string;
  /** Last vector; null before the first. */
  readonly usage: number[] | null;
  /** When the last usage report came; null before the first. */
  readonly usageTime: number | null;
  readonly usageReports: number;
  readonly stateReports: number;
  /** `new` until Initialized: nobody is watched before (4.5). `dead` and `ended` are for good. */
  readonly life: 'new' | 'watched' | 'unresponsive' | 'dead' | 'ended';
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

interface Entry {
  record: Mutable<ActivityRecord>;
  /** What the supervisor said last; comes back after Unresponsive. */
  said: StatePair;
  /** Silence counts from here. */
  since: number;
}

export interface ActivityServiceOptions {
  clock?: Clock;
  /** Milliseconds of silence before an activity is Unresponsive, and before it is dead: yagna's 5 and 10 s. */
  unresponsiveAfter?: number;
  deadAfter?: number;
  /** Milliseconds between two looks: yagna's 1 s. */
  lookEvery?: number;
  /** Take reports of activities that nobody announced; else they are refused with yagna's error. Default false. */
  acceptUnknown?: boolean;
}

/** Activities that are remembered; a node that accepts unknown ones must not be filled by them. */
const MAX_ACTIVITIES = 1024;

export class ActivityService {
  readonly #options: Required<ActivityServiceOptions>;
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<(event: ActivityEvent) => void>();
  readonly #stopWatching: () => void;

  constructor(options: ActivityServiceOptions = {}) {
    const { clock = systemClock, acceptUnknown = false } = options;
    const { unresponsiveAfter = 5000, deadAfter = 10_000, lookEvery = 1000 } = options;
    this.#options = { clock, acceptUnknown, unresponsiveAfter, deadAfter, lookEvery };
    this.#stopWatching = clock.every(lookEvery, () => this.#look());
  }

  /** Registers the two messages at the bus. @throws as {@link Gsb.bind} */
  async bind(gsb: Gsb, address: string = REPORT_ADDRESS): Promise<void> {
    await Promise.all([
      gsb.bind(`${address}/SetActivityState`, { unary: (body, call) => this.setState(body, call) }),
      gsb.bind(`${address}/SetActivityUsage`, { unary: (body, call) => this.setUsage(body, call) }),
    ]);
  }

  close(): void {
    this.#stopWatching();
    this.#listeners.clear();
  }

  /** Makes an activity known, as CreateActivity does. */
  announce(activity: string): void {
    if (!this.#entries.has(activity)) this.#add(activity);
  }

  forget(activity: string): void {
    this.#entries.delete(activity);
  }

  get(activity: string): ActivityRecord | undefined {
    return this.#entries.get(activity)?.record;
  }

  get activities(): readonly ActivityRecord[] {
    return [...this.#entries.values()].map(({ record }) => record);
  }

  /** Calls `listener` for each event. @returns how to stop it */
  listen(listener: (event: ActivityEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Waits until the activity is as `test` wants it.
   * @throws {YavmError} YAVM_E_TIMEOUT; the signal's reason
   */
  async reached(
    activity: string,
    test: (record: ActivityRecord) => boolean,
    { deadline, what, signal }: { deadline: number; what: string; signal?: AbortSignal },
  ): Promise<ActivityRecord> {
    const done = deferred<ActivityRecord>();
    const check = () => {
      const record = this.get(activity);
      if (record && test(record)) done.resolve(record);
    };
    const stop = this.listen(check);
    try {
      check();
      return await withDeadline(done.promise, deadline, what, { signal });
    } finally {
      stop();
    }
  }

  /** The provider's word for a supervisor that cannot say it itself any more (3.5). */
  setTerminated(activity: string, reason: string): void {
    const entry = this.#entries.get(activity);
    if (entry && entry.record.life !== 'ended')
      this.#setState(entry, { state: ['Terminated', null], reason });
  }

  // -------------------------------------------------------------- messages

  /** SetActivityState. Takes any transition, in any order, as yagna does. */
  setState(body: Flex, _call: CallInfo): Flex {
    const message = mapOf(body, 'SetState');
    const activity = textOf(message.activityId, 'activityId');
    const state = readActivityState(message.state);
    const entry =
      this.#entries.get(activity) ?? (this.#options.acceptUnknown ? this.#add(activity) : undefined);
    if (!entry) throw new RpcError('service', 'DAO error: Diesel error: NotFound');
    this.#setState(entry, state);
    return null;
  }

  /** SetActivityUsage. One of an unknown activity is answered Ok and forgotten, as yagna does (4.4). */
  setUsage(body: Flex, _call: CallInfo): Flex {
    const message = mapOf(body, 'SetUsage');
    const activity = textOf(message.activityId, 'activityId');
    const { current, timestamp } = readActivityUsage(message.usage);
    const entry =
      this.#entries.get(activity) ?? (this.#options.acceptUnknown ? this.#add(activity) : undefined);
    if (!entry) return null;
    const { record } = entry;
    const time = this.#options.clock.now();
    if (current) record.usage = current;
    record.usageTime = time;
    record.usageReports++;
    entry.since = time;
    this.#emit({ activity, time, kind: 'usage', usage: current, timestamp });
    if (record.life === 'unresponsive') this.#comesBack(entry, time);
    return null;
  }

  // -------------------------------------------------------------- life

  #add(activity: string): Entry {
    if (this.#entries.size >= MAX_ACTIVITIES) {
      throw new YavmError('YAVM_E_NODE_FULL', `the node has ${MAX_ACTIVITIES} activities already`);
    }
    const state: StatePair = ['New', null];
    const record: ActivityRecord = {
      activity,
      state,
      usage: null,
      usageTime: null,
      usageReports: 0,
      stateReports: 0,
      life: 'new',
    };
    const entry: Entry = { record, said: state, since: this.#options.clock.now() };
    this.#entries.set(activity, entry);
    return entry;
  }

  #setState(entry: Entry, { state, reason, errorMessage }: ReturnType<typeof readActivityState>): void {
    const { record } = entry;
    const time = this.#options.clock.now();
    entry.said = state;
    Object.assign(record, { state, reason, errorMessage, stateReports: record.stateReports + 1 });
    const [current, pending] = state;
    if (current === 'Terminated' && pending === null) {
      record.life = 'ended';
    } else if (current === 'Initialized' && pending === null && record.life === 'new') {
      record.life = 'watched';
      entry.since = Math.max(entry.since, record.usageTime ?? time);
    }
    this.#emit({ activity: record.activity, time, kind: 'state', state, reason, errorMessage });
  }

  #look(): void {
    for (const entry of this.#entries.values()) {
      const { record } = entry;
      if (record.life !== 'watched' && record.life !== 'unresponsive') continue;
      const time = this.#options.clock.now();
      const silent = time - entry.since;
      if (silent > this.#options.deadAfter) {
        record.life = 'dead';
        this.#emit({ activity: record.activity, time, kind: 'dead', silent });
      } else if (silent > this.#options.unresponsiveAfter && record.life === 'watched') {
        record.life = 'unresponsive';
        record.state = ['Unresponsive', null];
        this.#emit({ activity: record.activity, time, kind: 'unresponsive', silent });
      }
    }
  }

  #comesBack({ record, said }: Entry, time: number): void {
    record.life = 'watched';
    record.state = said;
    this.#emit({ activity: record.activity, time, kind: 'responsive', state: said });
  }

  #emit(event: ActivityEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}
