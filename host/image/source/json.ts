/** Untrusted JSON of image layouts, a field at a time: its place is in the error. */
import { ImageArchiveError } from '../errors.ts';

export type Json = Readonly<Record<string, unknown>>;

/** @throws {ImageArchiveError} as all here: `where` and what is wrong */
export function object(value: unknown, where: string): Json {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new ImageArchiveError(`${where} is not an object`);
}

export function array(value: unknown, where: string, limit: number): unknown[] {
  if (!Array.isArray(value)) throw new ImageArchiveError(`${where} is not a list`);
  if (value.length > limit)
    throw new ImageArchiveError(`${where} has ${value.length} entries, more than ${limit}`);
  return value;
}

export function text(value: unknown, where: string): string {
  if (typeof value === 'string' && value.length <= 4096) return value;
  throw new ImageArchiveError(`${where} is not text, or too long`);
}

/** Empty for a field that is missing or null. */
export function optionalText(value: unknown, where: string): string {
  return value === undefined || value === null ? '' : text(value, where);
}

/** An own property: `__proto__` in hostile JSON is one like any other. */
export function field(json: Json, name: string): unknown {
  return Object.hasOwn(json, name) ? json[name] : undefined;
}
