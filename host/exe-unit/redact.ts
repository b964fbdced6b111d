/** Keeps secrets out of the log: what URLs carry to open them, and the values of environment variables. */
import { type LogFields, type Logger, logMethods, type RecordLevel } from '../lib/logger.ts';

/** Shorter ones are words that any text has (`1`, `true`): replacing them would hide nothing and spoil the log. */
const LEAST_SECRET = 6;
/** Secrets known at most; each deploy brings some. */
const MAX_SECRETS = 10_000;
/** Levels of nesting of a field that are looked into. */
const MAX_DEPTH = 6;
const HIDDEN = '***';

const URLS = /[a-z][a-z0-9+.-]*:\/\/[^\s"'<>]+/gi;

export class Redactor {
  /** The longest first: one may be a part of another. */
  #secrets: string[] = [];

  /** From now on these values are hidden. */
  add(values: Iterable<string>): void {
    const fresh = [...values].filter((value) => value.length >= LEAST_SECRET);
    const all = new Set([...this.#secrets, ...fresh]);
    this.#secrets = [...all].sort((a, b) => b.length - a.length).slice(0, MAX_SECRETS);
  }

  text(text: string): string {
    let hidden = text.replace(URLS, hideInUrl);
    for (const secret of this.#secrets) {
      if (hidden.includes(secret)) hidden = hidden.replaceAll(secret, HIDDEN);
    }
    return hidden;
  }

  /** A field of a log record; an error keeps its shape. */
  value(value: unknown, depth: number = 0): unknown {
    if (typeof value === 'string') return this.text(value);
    if (typeof value !== 'object' || value === null) return value;
    if (depth >= MAX_DEPTH) return HIDDEN;
    if (value instanceof Error) return this.#error(value, depth);
    if (Array.isArray(value)) return value.map((each) => this.value(each, depth + 1));
    if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, this.value(each, depth + 1)]));
  }

  #error(error: Error, depth: number): Error {
    const { cause } = error;
    const hidden = new Error(
      this.text(error.message),
      cause === undefined ? {} : { cause: this.value(cause, depth + 1) },
    );
    const stack = this.text(error.stack ?? '');
    const own = Object.entries(error).map(([key, each]) => [key, this.value(each, depth + 1)]);
    return Object.assign(hidden, Object.fromEntries(own), { name: error.name, stack });
  }
}

/** User, password and the values of the query: each of them may be what opens the address. */
function hideInUrl(url: string): string {
  return url
    .replace(/^([^:]+:\/\/)[^/?#@]*@/, `$1${HIDDEN}@`)
    .replace(/([?&][^=&#]*=)[^&#]*/g, `$1${HIDDEN}`);
}

/** A logger whose records pass through `redactor` first. */
export function redacted(logger: Logger, redactor: Redactor): Logger {
  const method =
    (level: RecordLevel) =>
    (first: string | LogFields, second?: string): void => {
      if (!logger.enabled(level)) return;
      if (typeof first === 'string') logger[level](redactor.text(first));
      else logger[level](redactor.value(first) as LogFields, redactor.text(second ?? ''));
    };
  return {
    ...logMethods(method),
    child: (fields) => redacted(logger.child(redactor.value(fields) as LogFields), redactor),
    enabled: (level) => logger.enabled(level),
    close: () => logger.close(),
  };
}
