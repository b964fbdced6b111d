/** Bytes from one memory to another, with no view made for it. */

/** Bytes up to which a loop is faster than a call into the engine. */
const FEW = 48;

/** Copies `from[start…end)` to `to` at `at`; there must be room. */
export function copyBytes(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): void {
  if (end - start > FEW) {
    Buffer.prototype.copy.call(from, to, at, start, end);
    return;
  }
  for (let index = start; index < end; index++) to[at++] = from[index] as number;
}
