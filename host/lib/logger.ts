/**
 * The host's log: quiet by default, plain lines on a terminal, pino's JSON lines in a file or a pipe.
 *
 * pino takes 6.6 MB and 28 ms, a lot beside the 50 MB that a whole VM may cost the host. So it is loaded by the first
 * record that needs it; a run that has nothing to say never pays. Records are written synchronously: what was logged
 * before a crash is there.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { hasErrno, toError, YavmError } from './errors.ts';

/** pino's names and numbers. */
const LEVELS = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60 } as const;
export type RecordLevel = keyof typeof LEVELS;
export type LogLevel = RecordLevel | 'silent';
export const LOG_LEVELS: readonly LogLevel[] = [...(Object.keys(LEVELS) as RecordLevel[]), 'silent'];

export type LogFields = Record<string, unknown>;

/** Called as pino is: `log.warn('text')` or `log.warn({ vm: id, err: error }, 'text')`. */
export interface LogMethod {
  (message: string): void;
  (fields: LogFields, message: string): void;
}

export interface Logger extends Record<RecordLevel, LogMethod> {
  /** A logger that adds `fields` to each record. */
  child(fields: LogFields): Logger;
  /** True when records of `level` are written; for records that cost something to make. */
  enabled(level: RecordLevel): boolean;
  /** Writes what is queued and closes the file. Records after it are dropped. */
  close(): Promise<void>;
}

export interface LoggerOptions {
  /** Default `warn`. */
  level?: LogLevel;
  /** Append JSON lines to this file instead of standard error. Created 0600: it may hold what commands print. */
  file?: string;
  /** Force plain lines or JSON lines; default by what standard error is. */
  plain?: boolean;
  /** JSON only: pino is not loaded before this is settled; records wait. */
  after?: Promise<unknown>;
  /** Instead of standard error's descriptor, for tests. */
  descriptor?: number;
}

interface LogRecord {
  level: RecordLevel;
  fields: LogFields;
  message: string;
  time: number;
}

/** Records held while pino loads (28 ms); more are dropped and counted. */
const MAX_QUEUED = 1000;

/** @throws {YavmError} YAVM_E_LOG_FILE when the file cannot be opened. */
export function createLogger(options: LoggerOptions = {}): Logger {
  const level = options.level ?? 'warn';
  const sink = openSink(options);
  return loggerOn(sink, level === 'silent' ? Number.POSITIVE_INFINITY : LEVELS[level], {});
}

/** A logger that drops everything. */
export const silentLogger: Logger = loggerOn(
  { put: () => {}, close: async () => {} },
  Number.POSITIVE_INFINITY,
  {},
);

/** True for a name that `--log-level` takes. */
export function isLogLevel(name: string): name is LogLevel {
  return (LOG_LEVELS as readonly string[]).includes(name);
}

interface Sink {
  put(record: LogRecord): void;
  close(): Promise<void>;
}

/** A method for each level. */
export function logMethods(method: (level: RecordLevel) => LogMethod): Record<RecordLevel, LogMethod> {
  return {
    trace: method('trace'),
    debug: method('debug'),
    info: method('info'),
    warn: method('warn'),
    error: method('error'),
    fatal: method('fatal'),
  };
}

function loggerOn(sink: Sink, threshold: number, bound: LogFields): Logger {
  const method =
    (level: RecordLevel): LogMethod =>
    (first: string | LogFields, second?: string) => {
      if (LEVELS[level] < threshold) return;
      const fields = typeof first === 'string' ? bound : { ...bound, ...first };
      sink.put({
        level,
        fields,
        message: typeof first === 'string' ? first : (second ?? ''),
        time: Date.now(),
      });
    };
  return {
    ...logMethods(method),
    child: (fields) => loggerOn(sink, threshold, { ...bound, ...fields }),
    enabled: (level) => LEVELS[level] >= threshold,
    close: () => sink.close(),
  };
}

function openSink(options: LoggerOptions): Sink {
  if (options.file !== undefined) {
    try {
      return jsonSink(openSync(options.file, 'a', 0o600), true, options.after);
    } catch (error) {
      throw new YavmError('YAVM_E_LOG_FILE', `${options.file}: cannot write the log there`, { cause: error });
    }
  }
  const descriptor = options.descriptor ?? 2;
  return lateSink(() => {
    const plain = options.plain ?? process.stderr.isTTY === true;
    return plain ? plainSink(descriptor) : jsonSink(descriptor, false, options.after);
  });
}

/** Made by the first record: what standard error is, Node finds out at the price of a stream (10 ms). */
function lateSink(make: () => Sink): Sink {
  let sink: Sink | null = null;
  let closed = false;
  return {
    put(record) {
      if (closed) return;
      sink ??= make();
      sink.put(record);
    },
    async close() {
      closed = true;
      await sink?.close();
    },
  };
}

function plainSink(descriptor: number): Sink {
  return {
    put: (record) => writeWhole(descriptor, `${plainLine(record)}\n`),
    close: async () => {},
  };
}

/** `ya-vm warn: text key=value …`; an error's stack follows on lines of its own. */
export function plainLine(record: { level: string; fields: LogFields; message: string }): string {
  let line = `ya-vm ${record.level}: ${printable(record.message)}`;
  let stack = '';
  for (const [key, value] of Object.entries(record.fields)) {
    if (value instanceof Error) {
      line += ` ${key}=${JSON.stringify(value.message)}`;
      stack += `\n${value.stack ?? ''}`;
    } else if (value !== undefined) {
      line += ` ${key}=${typeof value === 'string' && /^[\w./:@-]+$/.test(value) ? value : JSON.stringify(value)}`;
    }
  }
  return line + stack;
}

/** Text of a guest or a file must not move the reader's cursor or change their terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (character) => {
    const code = character.charCodeAt(0).toString(16).padStart(2, '0');
    return `\\x${code}`;
  });
}

/** Queues records until pino is there, then hands them over at once. */
function jsonSink(descriptor: number, own: boolean, after: Promise<unknown> | undefined): Sink {
  let queue: LogRecord[] | null = [];
  let dropped = 0;
  let loading: Promise<void> | null = null;
  let write: (record: LogRecord) => void = () => {};
  let closed = false;

  const load = async () => {
    await after;
    // In the launcher's bundle a CommonJS package has no export but its default.
    const { default: pino } = await import('pino');
    const { stdSerializers } = pino;
    const logger = pino(
      // Thresholds were applied before; pino takes everything that reaches it.
      {
        level: 'trace',
        timestamp: false,
        serializers: { err: stdSerializers.err, error: stdSerializers.err },
      },
      { write: (line: string) => writeWhole(descriptor, line) },
    );
    write = (record) => logger[record.level]({ time: record.time, ...record.fields }, record.message);
    for (const record of queue ?? []) write(record);
    if (dropped > 0) logger.warn({ time: Date.now(), dropped }, 'log records were dropped');
    queue = null;
  };

  return {
    put(record) {
      if (closed) return;
      if (queue === null) return write(record);
      if (queue.length >= MAX_QUEUED) dropped++;
      else queue.push(record);
      loading ??= load().catch((error) => {
        queue = null;
        writeWhole(descriptor, `ya-vm error: the log does not work: ${toError(error).message}\n`);
      });
    },
    async close() {
      if (closed) return;
      await loading;
      closed = true;
      write = () => {};
      if (own) closeSync(descriptor);
    },
  };
}

/** Attempts on a full pipe or terminal before a record is given up: 100 × 10 ms. */
const MAX_RETRIES = 100;

/** Writes all of `text`, waiting for a slow reader for a second at most; a reader that is gone is no error of the log's user. */
function writeWhole(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  let offset = 0;
  for (let attempt = 0; offset < bytes.byteLength && attempt < MAX_RETRIES; ) {
    try {
      offset += writeSync(descriptor, bytes, offset);
    } catch (error) {
      if (!hasErrno(error, 'EAGAIN')) return;
      attempt++;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}
