/**
 * How much a test does. `make soak` runs the full counts; everything else a twentieth, so that CI stays short.
 * Read once, when the test starts.
 */

/** Part of the full counts that an ordinary run does. */
const FRACTION = 20;
/** Most bytes that an ordinary run moves in one transfer. */
const BYTES = 64 * 1024 * 1024;

/** Whether the full counts were asked for (`YAVM_SOAK=1`). */
export const soak = process.env.YAVM_SOAK === '1';

/** Rounds to run where the full count is `full`: all in a soak, else a twentieth, at least 2 (or `full`, if that is less). */
export function count(full: number): number {
  return countWith(full, soak);
}

/** Bytes to move where the full amount is `full`: all in a soak, else at most 64 MiB. */
export function bytes(full: number): number {
  return bytesWith(full, soak);
}

/** `count` with the choice passed in. */
export function countWith(full: number, everything: boolean): number {
  return everything ? full : Math.min(full, Math.max(2, Math.ceil(full / FRACTION)));
}

/** `bytes` with the choice passed in. */
export function bytesWith(full: number, everything: boolean): number {
  return everything ? full : Math.min(full, BYTES);
}
