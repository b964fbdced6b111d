/**
 * StreamExecBatchResults: a batch as RuntimeEvents (the spec's exe-unit.md, 4.2 and 4.8). The first subscriber of a
 * batch gets it from its start, later ones what happens from then on. The stream ends with the batch.
 *
 * A subscriber reads the log and the spools at its own pace. One that takes nothing for a minute is given up, so that
 * it does not hold what others could use.
 */
import { TextDecoder } from 'node:util';
import type { Flex } from '../gsb/types.ts';
import { YavmError } from '../lib/errors.ts';
import {
  type Batch,
  type CommandRecord,
  type LogEntry,
  STREAMS,
  type StreamName,
  type Subscriber,
} from './batch.ts';
import { type OutputCapture, outputValue } from './capture.ts';
import type { Clock } from './clock.ts';
import type { SpoolReader } from './spool.ts';
import type { ProgressReport } from './types.ts';

/** Milliseconds without progress after which a subscriber is given up. */
export const STALL = 60_000;
/** Bytes of output in one event at most. */
const CHUNK = 128 * 1024;

/** A captured stream, as far as a subscriber has read it. */
interface Place {
  capture: OutputCapture;
  reader: SpoolReader;
  /** Keeps the begin of a character until the rest comes; null for binary. */
  decoder: TextDecoder | null;
  /** Bytes that were dropped before they were read. */
  missed: number;
}

/** How far a subscriber is in a command. */
type Following = { [Name in StreamName]?: Place } & {
  /** Progress reports seen. */
  progress: number;
};

/**
 * Subscribes at once; the iterable is to be iterated once. `stall`: milliseconds that it may take nothing.
 * @throws while iterating: {YavmError} YAVM_E_STREAM_STALLED; YAVM_E_SPOOL
 */
export function streamEvents(
  batch: Batch,
  clock: Clock,
  signal: AbortSignal,
  stall: number = STALL,
): AsyncIterable<Flex> {
  const subscription = new Subscription(batch, signal);
  const events = subscription.events();
  let cancel = () => {};
  /** From each item handed out to the wish for the next. */
  const watch = () => {
    if (stall === Number.POSITIVE_INFINITY) return;
    cancel = clock.after(stall, () => subscription.close(stalled(batch, stall)));
  };
  watch();
  const iterator: AsyncIterator<Flex, undefined> = {
    async next() {
      cancel();
      subscription.check();
      const result = await events.next();
      if (result.done) return { done: true, value: undefined };
      watch();
      return result;
    },
    async return() {
      cancel();
      subscription.close(null);
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

const stalled = ({ id }: Batch, stall: number) =>
  new YavmError(
    'YAVM_E_STREAM_STALLED',
    `batch ${id}: nothing was taken from this stream for ${stall / 1000} s`,
  );

class Subscription implements Subscriber {
  readonly #batch: Batch;
  readonly #signal: AbortSignal;
  readonly #following = new Map<CommandRecord, Following>();
  #cursor: number;
  /** For reads from files. */
  #buffer: Buffer | null = null;
  #closed = false;
  #error: Error | null = null;
  #wake = () => {};
  readonly #onAbort = () => this.close(null);

  constructor(batch: Batch, signal: AbortSignal) {
    this.#batch = batch;
    this.#signal = signal;
    this.#cursor = 0;
    if (signal.aborted) {
      this.#closed = true;
      return;
    }
    const first = batch.claim(this);
    this.#cursor = first ? 0 : batch.log.length;
    for (const record of first ? batch.records : batch.records.slice(-1)) this.#hold(record, first);
    if (first) batch.settle();
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  follow(record: CommandRecord): void {
    this.#hold(record, true);
  }

  /** Gives back what is held; the stream ends, with `error` if there is one. */
  close(error: Error | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#batch.leave(this);
    this.#signal.removeEventListener('abort', this.#onAbort);
    for (const record of this.#following.keys()) this.#release(record);
    this.#wake();
  }

  /** @throws what it was closed with */
  check(): void {
    if (this.#error) throw this.#error;
  }

  async *events(): AsyncGenerator<Flex, void, undefined> {
    try {
      while (!this.#closed) {
        const entry = this.#batch.log[this.#cursor];
        if (entry !== undefined) {
          yield* this.#show(entry);
          this.#cursor++;
        } else if (!(yield* this.#showNews(this.#batch.records.at(-1)))) {
          if (this.#batch.over && !this.#batch.frozen) break;
          await this.#change();
        }
      }
      this.check();
    } catch (error) {
      if (this.#error === null && (this.#closed || this.#batch.frozen)) return await this.#aborted();
      throw error;
    } finally {
      this.close(null);
    }
  }

  // ---------------------------------------------------------------- inside

  async *#show(entry: LogEntry): AsyncGenerator<Flex, void, undefined> {
    const { record, time } = entry;
    if (entry.kind === 'started') {
      yield this.#event(record, time, { started: { command: record.command.source } });
    } else if (entry.kind === 'output') {
      // The mark may grow while it is read.
      yield* this.#drain(record, entry.stream, () => entry.to, time);
    } else if (entry.kind === 'progress') {
      const following = this.#following.get(record);
      if (following === undefined || entry.count <= following.progress) return;
      following.progress = entry.count;
      yield this.#event(record, time, progressKind(entry.report));
    } else {
      yield* this.#showNews(record);
      for (const stream of STREAMS) yield* this.#flush(record, stream);
      const message = this.#withMissed(record, entry.outcome.message);
      this.#release(record);
      yield this.#event(record, time, { finished: { return_code: entry.outcome.returnCode, message } });
    }
  }

  /** What a command brought without an entry in the log. True when there was something. */
  async *#showNews(record: CommandRecord | undefined): AsyncGenerator<Flex, boolean, undefined> {
    if (record === undefined) return false;
    const following = this.#following.get(record);
    if (following === undefined) return false;
    let news = false;
    const { progress } = record;
    if (progress !== null && progress.count > following.progress) {
      following.progress = progress.count;
      news = true;
      yield this.#event(record, progress.time, progressKind(progress.report));
    }
    for (const stream of STREAMS) {
      const place = following[stream];
      if (place === undefined || place.reader.position >= place.capture.spool.length) continue;
      news = true;
      yield* this.#drain(record, stream, () => place.capture.spool.length, record.outputTime);
    }
    return news;
  }

  /** Events for a stream's bytes from where this subscriber is up to `end()`. */
  async *#drain(
    record: CommandRecord,
    stream: StreamName,
    end: () => number,
    time: number,
  ): AsyncGenerator<Flex, void, undefined> {
    for (;;) {
      const place = this.#following.get(record)?.[stream];
      if (place === undefined) return;
      const { capture, reader, decoder } = place;
      const { spool } = capture;
      const rest = end() - reader.position;
      if (rest <= 0) return;
      const gap = Math.min(spool.next(reader.position) - reader.position, rest);
      if (gap > 0) {
        place.missed += gap;
        spool.move(reader, reader.position + gap);
        continue;
      }
      const reading = spool.read(reader.position, Math.min(CHUNK, rest), this.#scratch());
      const bytes = reading instanceof Promise ? await reading : reading;
      const output = decoder
        ? decoder.decode(bytes, { stream: true })
        : outputValue(Uint8Array.from(bytes), capture.format).value;
      spool.move(reader, reader.position + bytes.length);
      if (output !== '') yield this.#event(record, time, { [stream]: output });
    }
  }

  /** The rest of a stream, and of a character that was cut by the stream's end. */
  async *#flush(record: CommandRecord, stream: StreamName): AsyncGenerator<Flex, void, undefined> {
    const place = this.#following.get(record)?.[stream];
    if (place === undefined) return;
    yield* this.#drain(record, stream, () => place.capture.spool.length, record.outputTime);
    const output = place.decoder?.decode() ?? '';
    if (output !== '') yield this.#event(record, record.outputTime, { [stream]: output });
  }

  #scratch(): Buffer {
    this.#buffer ??= Buffer.allocUnsafeSlow(CHUNK);
    return this.#buffer;
  }

  #event({ index }: CommandRecord, time: number, kind: Flex): Flex {
    // No zone here, other than in results (4.2).
    const timestamp = new Date(time).toISOString().slice(0, -1);
    return { batch_id: this.#batch.id, index, timestamp, kind };
  }

  #withMissed(record: CommandRecord, message: string | null): string | null {
    const parts = message === null ? [] : [message];
    for (const stream of STREAMS) {
      const place = this.#following.get(record)?.[stream];
      if (place === undefined || place.missed === 0) continue;
      const { length } = place.capture.spool;
      parts.push(`${stream}: ${length - place.missed} of ${length} bytes (YAVM_E_OUTPUT_DROPPED)`);
    }
    return parts.length > 0 ? parts.join('; ') : null;
  }

  #hold(record: CommandRecord, fromStart: boolean): void {
    const following: Following = { progress: fromStart ? 0 : (record.progress?.count ?? 0) };
    for (const stream of STREAMS) {
      const capture = record.captures[stream];
      if (!capture?.streamed) continue;
      const decoder = capture.format === 'text' ? new TextDecoder('utf-8', { ignoreBOM: true }) : null;
      const reader = capture.spool.attach(fromStart ? 0 : capture.spool.length);
      following[stream] = { capture, reader, decoder, missed: 0 };
    }
    this.#following.set(record, following);
  }

  #release(record: CommandRecord): void {
    const following = this.#following.get(record);
    for (const stream of STREAMS) {
      const place = following?.[stream];
      place?.capture.spool.detach(place.reader);
    }
    this.#following.delete(record);
  }

  /** Whether there is something that {@link events} would show. */
  #hasNews(): boolean {
    if (this.#batch.log[this.#cursor] !== undefined) return true;
    const record = this.#batch.records.at(-1);
    const following = record && this.#following.get(record);
    if (record === undefined || following === undefined) return false;
    if (record.progress !== null && record.progress.count > following.progress) return true;
    return STREAMS.some((stream) => {
      const place = following[stream];
      return place !== undefined && place.reader.position < place.capture.spool.length;
    });
  }

  async #change(): Promise<void> {
    // Looked at once more: between "nothing" and here lie turns of the generators, in which something may have come.
    if (this.#closed || this.#hasNews()) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#batch.onChange(resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  /** The activity is over; the bus will answer. */
  async #aborted(): Promise<void> {
    if (this.#closed) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** A command is one step: the first of one, counted from 0 (as upstream). */
const STEP = [0, 1];

function progressKind({ message, done, total, unit }: ProgressReport): Flex {
  const progress = [Math.max(0, Math.floor(done)), total === null ? null : Math.max(0, Math.floor(total))];
  return { progress: { step: STEP, message: message ?? null, progress, unit: unit ?? null } };
}
