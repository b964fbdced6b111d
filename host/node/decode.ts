/** Reads what came over the bus field by field: nothing in a peer's message is believed before it was looked at. */
import { type Flex, FlexFloat, FlexInt, type FlexMap } from '../gsb/types.ts';
import { flexBytes, flexList, flexMap } from '../gsb/values.ts';
import { YavmError } from '../lib/errors.ts';

export function badMessage(what: string): YavmError {
  return new YavmError('YAVM_E_NODE_MESSAGE', `a message of the bus is not understood: ${what}`);
}

export function mapOf(value: Flex | undefined, what: string): FlexMap {
  const map = flexMap(value);
  if (!map) throw badMessage(`${what} is no map`);
  return map;
}

export function textOf(value: Flex | undefined, what: string): string {
  if (typeof value !== 'string') throw badMessage(`${what} is no text`);
  return value;
}

/** Absent and null are the same (2.7). */
export function optionalText(value: Flex | undefined, what: string): string | undefined {
  return value === undefined || value === null ? undefined : textOf(value, what);
}

/** Integers and floats alike (2.3). */
export function numberOf(value: Flex | undefined, what: string): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof FlexFloat || value instanceof FlexInt) return Number(value.value);
  throw badMessage(`${what} is no number`);
}

export function flagOf(value: Flex | undefined, what: string): boolean {
  if (typeof value !== 'boolean') throw badMessage(`${what} is neither true nor false`);
  return value;
}

/** Any vector. */
export function listOf(value: Flex | undefined, what: string): readonly Flex[] {
  const list = flexList(value);
  if (!list) throw badMessage(`${what} is no vector`);
  return list;
}

export function numbersOf(value: Flex | undefined, what: string): number[] {
  return listOf(value, what).map((each) => numberOf(each, `an element of ${what}`));
}

/** A command's output: text, or bytes as a vector of unsigned integers (2.7). Null: none. */
export function outputOf(value: Flex | undefined, what: string): string | Uint8Array | null {
  if (value === undefined || value === null) return null;
  const output = typeof value === 'string' ? value : flexBytes(value);
  if (output === undefined) throw badMessage(`${what} is neither text nor bytes`);
  return output;
}

/** A Rust enum: a text for a variant without content, else a map whose first key is the variant (2.3). */
export function variantOf(value: Flex | undefined, what: string): { name: string; content: Flex } {
  if (typeof value === 'string') return { name: value, content: null };
  const [first] = Object.entries(mapOf(value, what));
  if (!first) throw badMessage(`${what} is an empty map`);
  return { name: first[0], content: first[1] ?? null };
}
