/** Small validators that turn `unknown` into a type, or say which field is wrong. Everything has a bound. */

/** Returns `value` as a `T`, or throws a {@link ValidationError} that names `path`. */
export type Check<T> = (value: unknown, path: string) => T;

/** A value of the wrong shape. The message starts with the path of the field: `env[3]: …`. */
export class ValidationError extends Error {
  override name = 'ValidationError';

  constructor(path: string, problem: string) {
    super(`${path || 'message'}: ${problem}`);
  }
}

/** A whole number, `min` ≤ n ≤ `max`. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Check<number> {
  return (value, path) => {
    if (!Number.isSafeInteger(value)) throw new ValidationError(path, 'not a whole number');
    return inRange(value as number, min, max, path);
  };
}

/** A finite number, `min` ≤ n ≤ `max`. */
export function number(min: number, max: number): Check<number> {
  return (value, path) => {
    if (typeof value !== 'number' || !Number.isFinite(value)) throw new ValidationError(path, 'not a number');
    return inRange(value, min, max, path);
  };
}

function inRange(value: number, min: number, max: number, path: string): number {
  if (value < min || value > max) throw new ValidationError(path, `${value} is outside ${min}…${max}`);
  return value;
}

export const boolean: Check<boolean> = (value, path) => {
  if (typeof value !== 'boolean') throw new ValidationError(path, 'not true or false');
  return value;
};

/** Text of at most `max` UTF-16 units, any content. */
export function text(max: number): Check<string> {
  return (value, path) => {
    if (typeof value !== 'string') throw new ValidationError(path, 'not text');
    if (value.length > max)
      throw new ValidationError(path, `text of ${value.length} characters, at most ${max}`);
    return value;
  };
}

/** Text for a system call: as {@link text}, without NUL, which would cut it short unseen. */
export function word(max: number, min: number = 0): Check<string> {
  const check = text(max);
  return (value, path) => {
    const checked = check(value, path);
    if (checked.length < min) throw new ValidationError(path, 'empty');
    if (checked.includes('\0')) throw new ValidationError(path, 'holds a NUL character');
    return checked;
  };
}

/** Text that matches `pattern` as a whole; `what` says in the error what it should be. */
export function matching(pattern: RegExp, max: number, what: string): Check<string> {
  const check = text(max);
  return (value, path) => {
    const checked = check(value, path);
    if (!pattern.test(checked)) throw new ValidationError(path, `not ${what}`);
    return checked;
  };
}

/** One of a few words. */
export function oneOf<T extends string>(...words: T[]): Check<T> {
  return (value, path) => {
    if (!words.includes(value as T)) throw new ValidationError(path, `not one of ${words.join(', ')}`);
    return value as T;
  };
}

/** A byte string of `min` to `max` bytes. */
export function bytes(min: number, max: number): Check<Uint8Array> {
  return (value, path) => {
    if (!(value instanceof Uint8Array)) throw new ValidationError(path, 'not bytes');
    inRange(value.length, min, max, path);
    return value;
  };
}

/** A list of at most `max` items. */
export function list<T>(item: Check<T>, max: number, min: number = 0): Check<T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw new ValidationError(path, 'not a list');
    if (value.length < min || value.length > max) {
      throw new ValidationError(path, `${value.length} items, outside ${min}…${max}`);
    }
    return value.map((entry, index) => item(entry, `${path}[${index}]`));
  };
}

/** A map from names that pass `key` to values; at most `max` of them. */
export function dictionary<T>(key: Check<string>, item: Check<T>, max: number): Check<Record<string, T>> {
  return (value, path) => {
    const names = Object.keys(asMap(value, path));
    if (names.length > max) throw new ValidationError(path, `${names.length} entries, at most ${max}`);
    const result: Record<string, T> = {};
    for (const name of names) {
      result[key(name, `${path}: name`)] = item((value as Record<string, unknown>)[name], `${path}.${name}`);
    }
    return result;
  };
}

/** Lets a field be absent. */
export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, path) => (value === undefined ? undefined : check(value, path));
}

/** A map with the fields of `T`. Fields that are not named are left out of the result. */
export function object<T extends object>(fields: { [K in keyof T]-?: Check<T[K]> }): Check<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  return (value, path) => {
    const map = asMap(value, path);
    const result: Partial<T> = {};
    for (const name of names) {
      const field = fields[name](map[name], path === '' ? name : `${path}.${name}`);
      if (field !== undefined) result[name] = field;
    }
    return result as T;
  };
}

/** A map whose field `key` says which of `variants` it is. */
export function tagged<T extends object>(key: string, variants: Record<string, Check<T>>): Check<T> {
  return (value, path) => {
    const tag = asMap(value, path)[key];
    const names = Object.keys(variants);
    const variant = typeof tag === 'string' && names.includes(tag) ? variants[tag] : undefined;
    if (!variant) {
      throw new ValidationError(path === '' ? key : `${path}.${key}`, `not one of ${names.join(', ')}`);
    }
    return variant(value, path);
  };
}

/** Either a value that `match` recognises, checked by `then`, or anything else, checked by `otherwise`. */
export function either<A, B>(
  match: (value: unknown) => boolean,
  then: Check<A>,
  otherwise: Check<B>,
): Check<A | B> {
  return (value, path) => (match(value) ? then(value, path) : otherwise(value, path));
}

/** True for a map that has `name`: for {@link either}. */
export function has(name: string): (value: unknown) => boolean {
  return (value) => typeof value === 'object' && value !== null && name in value;
}

/** Any map, fields unchecked. */
export function asMap(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw new ValidationError(path, 'not a map');
  }
  return value as Record<string, unknown>;
}
