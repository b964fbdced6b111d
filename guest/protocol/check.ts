/** Small validators that turn `unknown` into a type, or say which field is wrong. Everything has a bound. */

/** Returns `value` as a `T`, or throws a {@link ValidationError}. */
export type Check<T> = (value: unknown) => T;

/** A value of the wrong shape. The message starts with the path of the field: `env[3]: …`. */
export class ValidationError extends Error {
  override name = 'ValidationError';
  readonly problem: string;
  /** Path of the wrong field beneath what was checked. */
  readonly path: string;

  constructor(problem: string, path = '') {
    super(`${path || 'message'}: ${problem}`);
    this.problem = problem;
    this.path = path;
  }
}

/**
 * Checks a part of something, by its name in it. Paths are put together only when an error passes: nearly all messages
 * are right, and building a path for each field of each would be half of the cost.
 */
export function at<T>(name: string, check: Check<T>, value: unknown): T {
  try {
    return check(value);
  } catch (error) {
    throw within(name, error);
  }
}

/** A validation error as seen from one level up. */
function within(name: string, error: unknown): unknown {
  if (!(error instanceof ValidationError)) return error;
  const separator = error.path === '' || error.path.startsWith('[') ? '' : '.';
  return new ValidationError(error.problem, `${name}${separator}${error.path}`);
}

/** A whole number, `min` ≤ n ≤ `max`. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Check<number> {
  return (value) => {
    if (!Number.isSafeInteger(value)) throw new ValidationError('not a whole number');
    return inRange(value as number, min, max);
  };
}

/** A finite number, `min` ≤ n ≤ `max`. */
export function number(min: number, max: number): Check<number> {
  return (value) => {
    if (typeof value !== 'number' || !Number.isFinite(value)) throw new ValidationError('not a number');
    return inRange(value, min, max);
  };
}

function inRange(value: number, min: number, max: number): number {
  if (value < min || value > max) throw new ValidationError(`${value} is outside ${min}…${max}`);
  return value;
}

export const boolean: Check<boolean> = (value) => {
  if (typeof value !== 'boolean') throw new ValidationError('not true or false');
  return value;
};

/** Text of at most `max` UTF-16 units, any content. */
export function text(max: number): Check<string> {
  return (value) => {
    if (typeof value !== 'string') throw new ValidationError('not text');
    if (value.length > max) throw new ValidationError(`text of ${value.length} characters, at most ${max}`);
    return value;
  };
}

/** Text for a system call: as {@link text}, without NUL, which would cut it short unseen. */
export function word(max: number, min: number = 0): Check<string> {
  const check = text(max);
  return (value) => {
    const checked = check(value);
    if (checked.length < min) throw new ValidationError('empty');
    if (checked.includes('\0')) throw new ValidationError('holds a NUL character');
    return checked;
  };
}

/** Text that matches `pattern` as a whole; `what` says in the error what it should be. */
export function matching(pattern: RegExp, max: number, what: string): Check<string> {
  const check = text(max);
  return (value) => {
    const checked = check(value);
    if (!pattern.test(checked)) throw new ValidationError(`not ${what}`);
    return checked;
  };
}

/** One of a few words. */
export function oneOf<T extends string>(...words: T[]): Check<T> {
  return (value) => {
    if (!words.includes(value as T)) throw new ValidationError(`not one of ${words.join(', ')}`);
    return value as T;
  };
}

/** A byte string of `min` to `max` bytes. */
export function bytes(min: number, max: number): Check<Uint8Array> {
  return (value) => {
    if (!(value instanceof Uint8Array)) throw new ValidationError('not bytes');
    inRange(value.length, min, max);
    return value;
  };
}

/** A list of at most `max` items. */
export function list<T>(item: Check<T>, max: number, min: number = 0): Check<T[]> {
  return (value) => {
    if (!Array.isArray(value)) throw new ValidationError('not a list');
    if (value.length < min || value.length > max) {
      throw new ValidationError(`${value.length} items, outside ${min}…${max}`);
    }
    const result: T[] = [];
    for (let index = 0; index < value.length; index++) {
      try {
        result.push(item(value[index]));
      } catch (error) {
        throw within(`[${index}]`, error);
      }
    }
    return result;
  };
}

/** A map from names that pass `key` to values; at most `max` of them. */
export function dictionary<T>(key: Check<string>, item: Check<T>, max: number): Check<Record<string, T>> {
  return (value) => {
    const names = Object.keys(asMap(value));
    if (names.length > max) throw new ValidationError(`${names.length} entries, at most ${max}`);
    const result: Record<string, T> = {};
    for (const name of names) {
      result[at('name', key, name)] = at(name, item, (value as Record<string, unknown>)[name]);
    }
    return result;
  };
}

/** Lets a field be absent. */
export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value) => (value === undefined ? undefined : check(value));
}

/** A map with the fields of `T`. Fields that are not named are left out of the result. */
export function object<T extends object>(fields: { [K in keyof T]-?: Check<T[K]> }): Check<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  return (value) => {
    const map = asMap(value);
    const result: Partial<T> = {};
    for (const name of names) {
      try {
        const field = fields[name](map[name]);
        if (field !== undefined) result[name] = field;
      } catch (error) {
        throw within(name, error);
      }
    }
    return result as T;
  };
}

/** A map whose field `key` says which of `variants` it is. */
export function tagged<T extends object>(key: string, variants: Record<string, Check<T>>): Check<T> {
  return (value) => {
    const tag = asMap(value)[key];
    const names = Object.keys(variants);
    const variant = typeof tag === 'string' && names.includes(tag) ? variants[tag] : undefined;
    if (!variant) {
      throw new ValidationError(`not one of ${names.join(', ')}`, key);
    }
    return variant(value);
  };
}

/** Either a value that `match` recognises, checked by `then`, or anything else, checked by `otherwise`. */
export function either<A, B>(
  match: (value: unknown) => boolean,
  then: Check<A>,
  otherwise: Check<B>,
): Check<A | B> {
  return (value) => (match(value) ? then(value) : otherwise(value));
}

/** True for a map that has `name`: for {@link either}. */
export function has(name: string): (value: unknown) => boolean {
  return (value) => typeof value === 'object' && value !== null && name in value;
}

/** Any map, fields unchecked. */
export function asMap(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw new ValidationError('not a map');
  }
  return value as Record<string, unknown>;
}
