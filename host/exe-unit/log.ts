/**
 * The exe-unit's log: JSON lines in a file of the activity's folder, and for a person at a terminal the same as text.
 * Variables as upstream's (the spec's exe-unit.md, 3.1): `EXE_UNIT_LOG_DIR`, `EXE_UNIT_FILE_LOG_LEVEL`, `RUST_LOG`.
 */
import { join, resolve } from 'node:path';
import { YavmError } from '../lib/errors.ts';
import {
  createLogger,
  isLogLevel,
  type LogFields,
  type Logger,
  type LogLevel,
  logMethods,
  type RecordLevel,
} from '../lib/logger.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { Redactor, redacted } from './redact.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface LogOptions {
  env: Environment;
  /** Folder that the log's folder is relative to. */
  folder: string;
  /** Names the file, and stands on each line. */
  activityId?: string;
  /** Whether standard error is a terminal: only then is anything written to it. */
  terminal: boolean;
  /** `--log-level` and `--log-file` of the command line: before what the environment says. */
  logLevel?: LogLevel;
  logFile?: string;
  /** Lines are kept in memory until then: what is logged first must not hold up what is to be done first. */
  after?: Promise<unknown>;
}

export interface ExeUnitLog {
  logger: Logger;
  redactor: Redactor;
  /** The log's folder: all that stays of an activity. */
  folder: string;
}

/**
 * Opens the log. Its folder is made when it is not there.
 * @throws {YavmError} YAVM_E_LOG_FILE
 */
export function openLog(options: LogOptions): ExeUnitLog {
  const { env, folder, activityId, terminal, logLevel, logFile, after } = options;
  const logs = resolve(folder, env.EXE_UNIT_LOG_DIR || 'logs');
  try {
    makeFolders(logs);
  } catch (cause) {
    throw new YavmError('YAVM_E_LOG_FILE', `${logs}: the log's folder cannot be made`, { cause });
  }
  const file = createLogger({
    level: logLevel ?? levelOf(env.EXE_UNIT_FILE_LOG_LEVEL, 'debug'),
    file: logFile ?? join(logs, logName(activityId)),
    after,
  });
  const sinks = terminal
    ? [file, createLogger({ level: logLevel ?? levelOf(env.RUST_LOG, 'info'), plain: true })]
    : [file];
  const redactor = new Redactor();
  const fields: LogFields = activityId === undefined ? {} : { activity: activityId };
  return { logger: redacted(tee(sinks), redactor).child(fields), redactor, folder: logs };
}

/** `exe-unit_<id>.log`: with `EXE_UNIT_LOG_DIR` the logs of several activities share a folder. */
function logName(activityId: string | undefined): string {
  return activityId === undefined ? 'exe-unit.log' : `exe-unit_${activityId.replace(/[^\w.-]/g, '_')}.log`;
}

/**
 * The level of a filter in upstream's syntax, `debug,h2=info`: its first entry that is a level. Rust's `off` is our
 * `silent`; words of neither leave the default.
 */
export function levelOf(filter: string | undefined, fallback: LogLevel): LogLevel {
  for (const entry of (filter ?? '').toLowerCase().split(',')) {
    const word = entry.trim() === 'off' ? 'silent' : entry.trim();
    if (isLogLevel(word)) return word;
  }
  return fallback;
}

/** One logger that writes to several. */
export function tee(loggers: readonly Logger[]): Logger {
  const method =
    (level: RecordLevel) =>
    (first: string | LogFields, second?: string): void => {
      for (const logger of loggers) {
        if (typeof first === 'string') logger[level](first);
        else logger[level](first, second ?? '');
      }
    };
  return {
    ...logMethods(method),
    child: (fields) => tee(loggers.map((logger) => logger.child(fields))),
    enabled: (level) => loggers.some((logger) => logger.enabled(level)),
    async close() {
      for (const logger of loggers) await logger.close();
    },
  };
}
