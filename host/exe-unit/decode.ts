/** Reading of what others wrote – JSON or FlexBuffers – value by value, each refusal with a code and the place. */
import { FlexUInts } from '../gsb/types.ts';
import { type ErrorCode, YavmError } from '../lib/errors.ts';

export type Fields = Readonly<Record<string, unknown>>;

/** Bounds for {@link measure}: a value that exceeds one is refused. */
export interface Bounds {
  depth: number;
  /** Values in all, containers included. */
  values: number;
  /** Characters and bytes of all strings, keys and blobs. */
  text: number;
}

export class Decoder {
  readonly #code: ErrorCode;

  /** `code`: of every refusal. */
  constructor(code: ErrorCode) {
    this.#code = code;
  }

  refuse(path: string, problem: string): never {
    throw new YavmError(this.#code, `${path}: ${problem}`);
  }

  /** An object with string keys. */
  fields(value: unknown, path: string): Fields {
    if (!isFields(value)) this.refuse(path, `${nameOf(value)} where an object is expected`);
    return value;
  }

  list(value: unknown, path: string, most: number): readonly unknown[] {
    if (!Array.isArray(value)) this.refuse(path, `${nameOf(value)} where a list is expected`);
    if (value.length > most) this.refuse(path, `more than ${most} entries`);
    return value;
  }

  text(value: unknown, path: string): string {
    if (typeof value !== 'string') this.refuse(path, `${nameOf(value)} where a text is expected`);
    if (value.includes('\0')) this.refuse(path, 'a zero byte in a text');
    return value;
  }

  texts(value: unknown, path: string, most: number): string[] {
    return this.list(value, path, most).map((item, index) => this.text(item, `${path}[${index}]`));
  }

  textMap(value: unknown, path: string, most: number): Record<string, string> {
    const entries = Object.entries(this.fields(value, path));
    if (entries.length > most) this.refuse(path, `more than ${most} entries`);
    const result: Record<string, string> = Object.create(null);
    for (const [key, item] of entries) {
      result[this.text(key, path)] = this.text(item, `${path}.${key}`);
    }
    return result;
  }

  /** A whole number from 0 on; beyond 2^53 the largest that a number holds exactly. */
  count(value: unknown, path: string): number {
    if (typeof value === 'bigint' && value >= 0n) return Number(min(value, BigInt(Number.MAX_SAFE_INTEGER)));
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) {
      this.refuse(path, `${nameOf(value)} where a whole number from 0 on is expected`);
    }
    return Math.min(value, Number.MAX_SAFE_INTEGER);
  }

  /** The only key of an object, and its value: a variant. */
  variant(value: unknown, path: string): [name: string, content: unknown] {
    const entries = Object.entries(this.fields(value, path));
    if (entries.length !== 1) this.refuse(path, `${entries.length} keys where exactly one is expected`);
    return entries[0] as [string, unknown];
  }

  /** `read`, or undefined for what is absent or null. */
  optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
    return value === undefined || value === null ? undefined : read(value);
  }

  /**
   * Counts what a value holds, without recursion; to be called before anything else looks at it.
   * @returns its size, about, in bytes
   */
  measure(value: unknown, path: string, bounds: Bounds): number {
    let values = 0;
    let text = 0;
    let level: unknown[] = [value];
    for (let depth = 0; level.length > 0; depth++) {
      if (depth > bounds.depth) this.refuse(path, `more than ${bounds.depth} levels deep`);
      const below: unknown[] = [];
      for (const item of level) {
        values++;
        if (values + below.length > bounds.values) this.refuse(path, `more than ${bounds.values} values`);
        text += textIn(item);
        if (Array.isArray(item)) for (const inner of item) below.push(inner);
        else if (isFields(item)) {
          for (const key of Object.keys(item)) {
            text += key.length;
            below.push(item[key]);
          }
        }
        if (text > bounds.text) this.refuse(path, `more than ${bounds.text} bytes of text`);
      }
      level = below;
    }
    return values * VALUE_SIZE + text;
  }
}

/** Bytes that a value takes in memory, about, beside its text. */
const VALUE_SIZE = 32;

function textIn(item: unknown): number {
  if (typeof item === 'string') return item.length;
  if (item instanceof FlexUInts) return item.bytes.length;
  return ArrayBuffer.isView(item) ? item.byteLength : 0;
}

/** A plain object: the decoders of both forms make no others, and what else there is has a class. */
function isFields(value: unknown): value is Fields {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

function nameOf(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number' || typeof value === 'bigint') return `the number ${value}`;
  if (typeof value === 'boolean') return `${value}`;
  if (typeof value === 'string') return 'a text';
  return isFields(value) ? 'an object' : 'bytes';
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
