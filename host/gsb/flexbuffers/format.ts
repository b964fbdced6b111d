/** FlexBuffers' types and widths. Facts: the spec's exe-unit.md, 2.4. */
import { YavmError } from '../../lib/errors.ts';

export const FlexType = {
  null: 0,
  int: 1,
  uint: 2,
  float: 3,
  key: 4,
  string: 5,
  indirectInt: 6,
  indirectUInt: 7,
  indirectFloat: 8,
  map: 9,
  vector: 10,
  vectorInt: 11,
  vectorUInt: 12,
  vectorFloat: 13,
  vectorKey: 14,
  vectorString: 15,
  /** Then VectorUInt2 and VectorFloat2, and the same three with 3 and 4 elements. */
  vectorInt2: 16,
  vectorFloat4: 24,
  blob: 25,
  bool: 26,
  vectorBool: 36,
} as const;

/** A type byte's low bits: a width is `1 << bits` bytes. */
export type WidthBits = 0 | 1 | 2 | 3;

/** Levels of maps and vectors in one another; the protocol's own need eight. */
export const MAX_DEPTH = 64;

/** What is said of a body that cannot be read or written. */
export function bodyError(why: string, cause?: unknown): YavmError {
  return new YavmError('YAVM_E_GSB_BODY', `not a body of the bus: ${why}`, { cause });
}
