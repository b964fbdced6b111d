/** What is kept of one output stream, and how it is shown in a result: the spec's exe-unit.md, 4.9. */
import { type Flex, FlexUInts } from '../gsb/types.ts';
import type { Spool } from './spool.ts';
import type { SpoolStore } from './spool-store.ts';
import type { Capture, ScriptCommand } from './types.ts';

/** Deploy, start and the others that have no capture of their own: everything, as text, streamed and kept. */
const EVERYTHING: Capture = { mode: 'stream', limit: null, format: 'text' };

/** Which streams of a command are captured, and how; undefined: discarded. */
export function capturesOf(command: ScriptCommand): { stdout?: Capture; stderr?: Capture } {
  if (command.kind === 'run') return { stdout: command.stdout, stderr: command.stderr };
  return { stdout: EVERYTHING, stderr: EVERYTHING };
}

/** Positions [from, to) of a stream. */
type Range = readonly [from: number, to: number];

/** Part of an output, as it goes into a result. */
export interface Shown {
  /** Null when there is nothing. */
  value: Flex;
  /** Bytes that `value` shows, and bytes that the capture asked for. */
  bytes: number;
  of: number;
  /** Bytes that `value` takes on the bus, about. */
  encoded: number;
}

export class OutputCapture {
  readonly format: Capture['format'];
  /** Whether subscribers get it as it comes. */
  readonly streamed: boolean;
  readonly spool: Spool;
  readonly #capture: Capture;
  /** Bytes that a result shows at most. */
  readonly #captured: number;
  /** Bytes that the command wrote. */
  #total = 0;

  constructor(capture: Capture, captured: number, store: SpoolStore) {
    this.#capture = capture;
    this.#captured = captured;
    this.format = capture.format;
    this.streamed = capture.mode === 'stream';
    this.spool = store.create(this.#keep());
  }

  /** Takes what the command wrote; a promise is to be awaited before more comes. */
  take(bytes: Uint8Array): void | Promise<void> {
    const before = this.#total;
    this.#total += bytes.length;
    const room = this.#spooledAtMost() - before;
    if (room <= 0) return;
    return this.spool.append(room < bytes.length ? bytes.subarray(0, room) : bytes);
  }

  /** What a result shows, within `budget` bytes on the bus. */
  async show(budget: number): Promise<Shown> {
    const of = this.#asked();
    const bytes = await this.#read(Math.min(this.#captured, roomFor(this.format, budget)));
    const cut = bytes.length < of;
    const whole = this.format === 'text' && cut ? withoutHalfCharacter(bytes) : bytes;
    const shown = outputValue(whole, this.format);
    if (this.format === 'text' && shown.encoded > budget) {
      // Not UTF-8, and twice as long as Latin-1.
      const half = bytes.subarray(0, Math.floor(budget / 2));
      return { ...outputValue(half, this.format), of };
    }
    return { ...shown, of };
  }

  /** Bytes that a result would show if it had no cap of its own. */
  #asked(): number {
    const capture = this.#capture;
    if (capture.mode === 'stream') return Math.min(this.#total, capture.limit ?? Number.POSITIVE_INFINITY);
    return capture.part === 'all' ? this.#total : Math.min(this.#total, capture.size);
  }

  /** Bytes of the stream, from its begin, that go to the spool. */
  #spooledAtMost(): number {
    const capture = this.#capture;
    if (capture.mode === 'stream') return capture.limit ?? Number.POSITIVE_INFINITY;
    if (capture.part === 'all') return this.#captured;
    if (capture.part === 'head') return Math.min(capture.size, this.#captured);
    return capture.size === 0 ? 0 : Number.POSITIVE_INFINITY;
  }

  #keep(): { head: number; tail: number } {
    const capture = this.#capture;
    if (capture.mode === 'stream' || capture.part === 'all') return { head: this.#captured, tail: 0 };
    const size = Math.min(capture.size, this.#captured);
    if (capture.part === 'head') return { head: size, tail: 0 };
    if (capture.part === 'tail') return { head: 0, tail: size };
    return { head: Math.ceil(size / 2), tail: Math.floor(size / 2) };
  }

  async #read(limit: number): Promise<Buffer> {
    const { head, tail } = this.spool.keep;
    const { length } = this.spool;
    const first: Range = [0, Math.min(head, length, limit)];
    // What stands in the head is not shown again.
    const room = Math.min(tail, limit - first[1]);
    const last: Range = [Math.max(first[1], length - room), length];
    const parts = await Promise.all(
      [first, last].filter(([from, to]) => to > from).map(([from, to]) => this.spool.collect(from, to)),
    );
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }
}

/** Bytes of output that fit into `budget` bytes on the bus: a vector of unsigned integers has elements as wide as its length. */
function roomFor(format: Capture['format'], budget: number): number {
  if (format !== 'binary') return Math.max(0, budget);
  return Math.max(0, Math.floor(budget / elementWidth(budget)));
}

function elementWidth(length: number): number {
  return length > 0xffff ? 4 : length > 0xff ? 2 : 1;
}

/** As results and events carry bytes: null for none; text that is no UTF-8 becomes Latin-1. */
export function outputValue(
  bytes: Uint8Array,
  format: Capture['format'],
): { value: Flex; bytes: number; encoded: number } {
  const count = bytes.length;
  if (count === 0) return { value: null, bytes: 0, encoded: 0 };
  if (format === 'binary')
    return { value: new FlexUInts(bytes), bytes: count, encoded: count * elementWidth(count) };
  if (format === 'blob') return { value: bytes, bytes: count, encoded: count };
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return { value: decoder.decode(bytes), bytes: count, encoded: count };
  } catch {
    const value = Buffer.from(bytes.buffer, bytes.byteOffset, count).toString('latin1');
    return { value, bytes: count, encoded: Buffer.byteLength(value) };
  }
}

/** Without the begin of a UTF-8 character at the end: what we cut must not turn the whole into Latin-1. */
function withoutHalfCharacter(bytes: Buffer): Buffer {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return size > back ? bytes.subarray(0, -back) : bytes;
  }
  return bytes;
}
