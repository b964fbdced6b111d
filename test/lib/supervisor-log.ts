/** A logger that keeps its records, for tests that look at what was logged. */
import type { LogFields, Logger } from '../../host/lib/logger.ts';

export interface Logged {
  level: string;
  message: string;
  fields: LogFields;
}

export function keepingLogger(
  records: Logged[] = [],
  bound: LogFields = {},
): { logger: Logger; records: Logged[] } {
  const method =
    (level: string) =>
    (first: string | LogFields, second?: string): void => {
      const fields = typeof first === 'string' ? bound : { ...bound, ...first };
      records.push({ level, fields, message: typeof first === 'string' ? first : (second ?? '') });
    };
  const logger: Logger = {
    trace: method('trace'),
    debug: method('debug'),
    info: method('info'),
    warn: method('warn'),
    error: method('error'),
    fatal: method('fatal'),
    child: (fields) => keepingLogger(records, { ...bound, ...fields }).logger,
    enabled: () => true,
    close: async () => {},
  };
  return { logger, records };
}
