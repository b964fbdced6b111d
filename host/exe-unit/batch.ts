/**
 * A batch as an append-only log of what happened, from which results, streams and the running command are read. Bytes
 * are not in the log but in the commands' spools: it has marks, up to which position a stream had come.
 */
import type { OutputCapture } from './capture.ts';
import type { Clock } from './clock.ts';
import type { ProgressReport, ScriptCommand } from './types.ts';

export const STREAMS = ['stdout', 'stderr'] as const;
export type StreamName = (typeof STREAMS)[number];

/** How a command ended. */
export interface Outcome {
  /** 0: success; -1: it did not run, or not to its end. */
  returnCode: number;
  message: string | null;
}

/** `time`: milliseconds since 1970. */
export type LogEntry = { record: CommandRecord; time: number } & (
  | { kind: 'started' }
  | { kind: 'output'; stream: StreamName; to: number }
  | { kind: 'progress'; report: ProgressReport; count: number }
  | { kind: 'finished'; outcome: Outcome }
);

export interface CommandRecord {
  index: number;
  command: ScriptCommand;
  captures: { [Name in StreamName]?: OutputCapture };
  end: (Outcome & { time: number; incomplete: boolean }) | null;
  /** When the last output came. */
  outputTime: number;
  /** Marks and progress entries in the log. */
  details: number;
  /** The newest progress report, and how many there were. */
  progress: { report: ProgressReport; count: number; time: number } | null;
}

/**
 * Marks and progress entries of a command at most, and of a batch. Beyond them the order in which stdout and stderr came
 * is not kept any more, and progress is only the newest: nothing is lost, and the log stays small.
 */
const MAX_DETAILS = 1000;
const MAX_BATCH_DETAILS = 20_000;
/** Bytes that an entry of the log takes, about. */
const ENTRY_SIZE = 100;

/** Reads a batch's captured streams; see events.ts. */
export interface Subscriber {
  /** A command begins: its spools are held for this subscriber. */
  follow(record: CommandRecord): void;
}

export class Batch {
  readonly id: string;
  readonly script: readonly ScriptCommand[];
  readonly log: LogEntry[] = [];
  readonly records: CommandRecord[] = [];
  readonly #scriptSize: number;
  readonly #clock: Clock;
  readonly #subscribers = new Set<Subscriber>();
  #claimed = false;
  #over = false;
  #frozen = false;
  #stopping = false;
  #details = 0;
  #waiting: (() => void)[] = [];

  constructor(id: string, script: readonly ScriptCommand[], scriptSize: number, clock: Clock) {
    this.id = id;
    this.script = script;
    this.#scriptSize = scriptSize;
    this.#clock = clock;
  }

  // ---------------------------------------------------------------- what happens

  started(command: ScriptCommand, captures: CommandRecord['captures']): CommandRecord {
    const time = this.#clock.now();
    const record: CommandRecord = {
      index: this.records.length,
      command,
      captures,
      end: null,
      outputTime: time,
      details: 0,
      progress: null,
    };
    this.records.push(record);
    for (const { streamed, spool } of Object.values(captures)) spool.unclaimed = streamed && !this.#claimed;
    for (const subscriber of this.#subscribers) subscriber.follow(record);
    this.#add({ kind: 'started', record, time });
    return record;
  }

  /** Passes bytes to the capture; a promise is to be awaited before more comes. */
  output(record: CommandRecord, stream: StreamName, bytes: Uint8Array): void | Promise<void> {
    const capture = record.captures[stream];
    if (capture === undefined || record.end !== null || this.#frozen) return;
    const taken = capture.take(bytes);
    if (capture.streamed) this.#mark(record, stream, capture.spool.length);
    return taken;
  }

  progress(record: CommandRecord, report: ProgressReport): void {
    if (record.end !== null || this.#frozen) return;
    const time = this.#clock.now();
    const count = (record.progress?.count ?? 0) + 1;
    record.progress = { report, count, time };
    this.#detail({ kind: 'progress', record, time, report, count });
  }

  /** `incomplete`: the guest announced output that did not arrive. */
  finished(record: CommandRecord, outcome: Outcome, incomplete: boolean): void {
    if (this.#frozen) return;
    const time = this.#clock.now();
    record.end = { ...outcome, time, incomplete };
    // Not awaited: it can be read all the time.
    for (const { spool } of Object.values(record.captures)) void spool.seal();
    this.#add({ kind: 'finished', record, time, outcome });
  }

  /** No command follows any more. */
  ended(): void {
    if (this.#frozen) return;
    this.#over = true;
    this.#changed();
  }

  /** The commands after the running one are not to begin. */
  stop(): void {
    this.#stopping = true;
  }

  /** Nothing that happens from now on is told to anybody: the activity ends, and the bus answers in its place. */
  freeze(): void {
    this.#frozen = true;
  }

  // ---------------------------------------------------------------- how it is seen

  /** Bytes that it takes in memory, about, without outputs. */
  get size(): number {
    return this.#scriptSize + this.log.length * ENTRY_SIZE;
  }

  get over(): boolean {
    return this.#over;
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** Commands that have ended. */
  get done(): number {
    const last = this.records.at(-1);
    return this.records.length - (last !== undefined && last.end === null ? 1 : 0);
  }

  /** The command under way. */
  get running(): CommandRecord | undefined {
    const last = this.records.at(-1);
    return last?.end === null ? last : undefined;
  }

  /** How many are streaming this batch. */
  get watchers(): number {
    return this.#subscribers.size;
  }

  /** Calls `action` at the next change, once; returns how to cancel. */
  onChange(action: () => void): () => void {
    this.#waiting.push(action);
    return () => {
      const at = this.#waiting.indexOf(action);
      if (at >= 0) this.#waiting.splice(at, 1);
    };
  }

  /** True for the first subscriber, who gets the batch from its start. */
  claim(subscriber: Subscriber): boolean {
    const first = !this.#claimed;
    this.#claimed = true;
    this.#subscribers.add(subscriber);
    return first;
  }

  leave(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
  }

  /** The first subscriber holds what it needs by itself: nothing is kept for it any more. */
  settle(): void {
    for (const { captures } of this.records) {
      for (const { spool } of Object.values(captures)) spool.unclaimed = false;
    }
  }

  // ---------------------------------------------------------------- inside

  /** The newest mark grows while no other event came after it. */
  #mark(record: CommandRecord, stream: StreamName, to: number): void {
    const time = this.#clock.now();
    record.outputTime = time;
    const last = this.log.at(-1);
    if (last?.kind === 'output' && last.record === record && last.stream === stream) {
      last.to = to;
      this.#changed();
    } else {
      this.#detail({ kind: 'output', record, stream, to, time });
    }
  }

  #detail(entry: LogEntry): void {
    if (entry.record.details >= MAX_DETAILS || this.#details >= MAX_BATCH_DETAILS) {
      this.#changed();
      return;
    }
    entry.record.details++;
    this.#details++;
    this.#add(entry);
  }

  #add(entry: LogEntry): void {
    this.log.push(entry);
    this.#changed();
  }

  #changed(): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const action of waiting) action();
  }
}
