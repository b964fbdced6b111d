/** What a FlexBuffers value means, whichever of its forms it has: for comparisons. */
import { type Flex, FlexFloat, FlexInt, FlexUInts } from '../../host/gsb/types.ts';

/** Plain values: integers beyond 2^53 as text, bytes and vectors as arrays, maps with their keys sorted. */
export function meaning(value: Flex): unknown {
  if (value instanceof FlexFloat || value instanceof FlexInt) return meaning(value.value);
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : `${value}`;
  if (value instanceof FlexUInts) return Array.from(value.bytes);
  if (value instanceof Uint8Array || value instanceof Float64Array) return Array.from(value);
  if (Array.isArray(value)) return value.map(meaning);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).flatMap(([key, entry]) =>
    entry === undefined ? [] : [[key, meaning(entry)] as const],
  );
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}
