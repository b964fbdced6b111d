/** The guest's log records, made safe: bounded, rate-limited, without control characters, then passed to our log. */
import type { LogFields, Logger } from '../lib/logger.ts';
import { printable } from '../lib/logger.ts';

/** Records that are passed on: this many a second on average, and in one burst. */
const RECORDS_PER_SECOND = 200;
const RECORDS_BURST = 1000;
/** Bytes a second beyond which the port is not read for a while, so that a flood costs the guest and not us. */
const BYTES_PER_SECOND = 1024 * 1024;
const PAUSE = 500;
/** Bounds of one record. */
const MAX_TEXT = 4096;
const MAX_FIELDS = 16;

type Method = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** pino's level numbers: the name for `level` is the last row that it reaches. The guest's end of the world is our error. */
const METHODS: readonly [number, Method][] = [
  [0, 'trace'],
  [20, 'debug'],
  [30, 'info'],
  [40, 'warn'],
  [50, 'error'],
];

/** pino's `fatal`: the last words of an agent that is about to end its machine. */
const FATAL = 60;

export class GuestLog {
  readonly #logger: Logger;
  readonly #now: () => number;
  #tokens = RECORDS_BURST;
  #bytes = 0;
  #at: number;
  #dropped = 0;
  #lastWords: string | null = null;

  constructor(logger: Logger, now: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#now = now;
    this.#at = now();
  }

  /** Text of the last fatal record: what the agent said before it gave up. */
  get lastWords(): string | null {
    return this.#lastWords;
  }

  /** Takes a record. Returns how long the port should not be read, milliseconds. */
  receive(payload: Uint8Array): number {
    this.#refill();
    this.#bytes += payload.length + 64;
    if (this.#tokens >= 1) {
      this.#tokens--;
      this.#write(payload);
    } else {
      this.#dropped++;
    }
    return this.#bytes > BYTES_PER_SECOND ? PAUSE : 0;
  }

  #refill(): void {
    const now = this.#now();
    const seconds = (now - this.#at) / 1000;
    this.#at = now;
    this.#tokens = Math.min(RECORDS_BURST, this.#tokens + seconds * RECORDS_PER_SECOND);
    this.#bytes = Math.max(0, this.#bytes - seconds * BYTES_PER_SECOND);
    if (this.#dropped > 0 && this.#tokens >= 1) {
      this.#logger.warn({ dropped: this.#dropped }, 'guest: too many log records, some were dropped');
      this.#dropped = 0;
    }
  }

  #write(payload: Uint8Array): void {
    const text = new TextDecoder().decode(payload);
    const record = parseRecord(text);
    if (record === null) {
      this.#logger.warn(`guest: ${clip(text)}`);
      return;
    }
    if (record.level >= FATAL) {
      this.#lastWords = [record.message, record.fields.stack]
        .filter((part) => typeof part === 'string')
        .join('\n');
    }
    this.#logger[methodOf(record.level)](record.fields, `guest: ${record.message}`);
  }
}

function methodOf(level: number): Method {
  let method: Method = 'trace';
  for (const [from, name] of METHODS) if (level >= from) method = name;
  return method;
}

/** A pino-shaped JSON line, bounded and printable; null when it is none. */
export function parseRecord(text: string): { level: number; message: string; fields: LogFields } | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const { level, msg, time: _, ...rest } = value as Record<string, unknown>;
  const fields: LogFields = {};
  for (const [key, field] of Object.entries(rest).slice(0, MAX_FIELDS)) {
    fields[printable(key.slice(0, 64))] = typeof field === 'number' ? field : clip(textOf(field));
  }
  return {
    level: typeof level === 'number' ? level : 30,
    message: typeof msg === 'string' ? clip(msg) : '',
    fields,
  };
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function clip(text: string): string {
  return printable(text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
}
