/** Copies bytes without making a view of them, as `set(subarray())` does: frames are copied by the hundred thousand a second. */

const { copy } = Buffer.prototype;

/** `length` bytes of `from` at `start` go to `to` at `at`; both ranges exist. */
export function copyBytes(from: Uint8Array, start: number, length: number, to: Uint8Array, at: number): void {
  // Works on any Uint8Array.
  copy.call(from, to, at, start, start + length);
}
