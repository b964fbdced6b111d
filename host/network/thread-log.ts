/** The network thread's log: records go to the main thread, errors in a form that survives the way. */
import { LOG_LEVELS, type LogFields, type Logger, logMethods, type RecordLevel } from '../lib/logger.ts';
import { errorFromWire, errorToWire, type WireError } from '../lib/wire-error.ts';

export interface LogRecord {
  level: RecordLevel;
  fields: LogFields;
  message: string;
}

/** Marks an error among the fields of a record on its way. */
const ERROR = 'yavmError';

/** The thread's side. `threshold`: records below it are not even sent. */
export function threadLogger(
  post: (record: LogRecord) => void,
  threshold: RecordLevel,
  bound: LogFields = {},
): Logger {
  const enabled = (level: RecordLevel) => LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(threshold);
  return {
    ...logMethods((level) => (first: string | LogFields, second?: string) => {
      if (!enabled(level)) return;
      const [fields, message] = typeof first === 'string' ? [{}, first] : [first, second ?? ''];
      post({ level, fields: packed({ ...bound, ...fields }), message });
    }),
    child: (fields) => threadLogger(post, threshold, { ...bound, ...fields }),
    enabled,
    close: async () => {},
  };
}

/** The main thread's side: writes what the thread has to say. */
export function logFromThread(logger: Logger, { level, fields, message }: LogRecord): void {
  const unpacked: LogFields = {};
  for (const [key, value] of Object.entries(fields)) {
    const error = (value as { [ERROR]?: WireError } | null)?.[ERROR];
    unpacked[key] = error === undefined ? value : errorFromWire(error);
  }
  logger[level](unpacked, message);
}

/** The lowest level that `logger` writes; null: none. */
export function thresholdOf(logger: Logger): RecordLevel | null {
  const levels = LOG_LEVELS.filter((level) => level !== 'silent') as RecordLevel[];
  return levels.find((level) => logger.enabled(level)) ?? null;
}

function packed(fields: LogFields): LogFields {
  const result: LogFields = {};
  for (const [key, value] of Object.entries(fields)) {
    result[key] = value instanceof Error ? { [ERROR]: errorToWire(value) } : value;
  }
  return result;
}
