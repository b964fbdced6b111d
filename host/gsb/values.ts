/** Decoded values as the fields of messages: what a peer may have written them as. */
import { type Flex, FlexFloat, FlexInt, type FlexMap, FlexUInts } from './types.ts';

/** A map, or undefined for any other value. */
export function flexMap(value: Flex | undefined): FlexMap | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value))
    return;
  if (value instanceof FlexUInts || value instanceof FlexFloat || value instanceof FlexInt) return;
  return value as FlexMap;
}

/** A vector's elements, however it was typed; undefined for any other value. */
export function flexList(value: Flex | undefined): readonly Flex[] | undefined {
  if (value instanceof FlexUInts) return Array.from(value.bytes);
  if (value instanceof Float64Array) return Array.from(value);
  return Array.isArray(value) ? value : undefined;
}

/** Numbers of a vector; undefined for any other value, or when one element is no number. */
export function flexNumbers(value: Flex | undefined): number[] | undefined {
  const numbers = flexList(value)?.map((element) =>
    typeof element === 'bigint' ? Number(element) : element,
  );
  return numbers?.every((element) => typeof element === 'number') ? (numbers as number[]) : undefined;
}

/**
 * Bytes that came as a blob or as a vector of unsigned integers (of which few, or none, have another form); undefined
 * for any other value.
 */
export function flexBytes(value: Flex | undefined): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value;
  if (value instanceof FlexUInts) return value.bytes;
  if (!Array.isArray(value) || !value.every(isByte)) return undefined;
  return Uint8Array.from(value as number[]);
}

function isByte(value: Flex): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255;
}
