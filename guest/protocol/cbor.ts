/**
 * A strict look at CBOR before the library decodes it.
 *
 * cbor-x reads far more than our messages need: tags that build dates, errors, shared and cyclic values, records that are
 * compiled with `new Function`. A peer that is not trusted must not reach any of that, so only the plain data model
 * passes: integers, floats, text, byte strings, arrays, maps with text keys, booleans, null and undefined, all of
 * definite length and inside the message.
 */

/** Nesting allowed; our deepest message has 6 levels. */
const MAX_DEPTH = 16;

/** Bytes that are no message of ours. */
export class CborError extends Error {
  override name = 'CborError';
}

/** Passes one complete, plain CBOR value. Takes time in proportion to its bytes, and no memory. @throws {CborError} */
export function checkCbor(bytes: Uint8Array): void {
  const end = checkItem(bytes, 0, 0);
  if (end !== bytes.length) throw new CborError(`${bytes.length - end} bytes after the message`);
}

/** Checks the item at `start`; returns the offset after it. */
function checkItem(bytes: Uint8Array, start: number, depth: number): number {
  if (depth > MAX_DEPTH) throw new CborError(`nested deeper than ${MAX_DEPTH}`);
  const initial = bytes[start];
  if (initial === undefined) throw new CborError('message cut off');
  const major = initial >> 5;
  const low = initial & 0x1f;
  const width = low < 24 ? 0 : low < 28 ? 1 << (low - 24) : -1;
  if (width < 0) throw new CborError('indefinite length');
  let offset = start + 1 + width;
  if (offset > bytes.length) throw new CborError('message cut off');
  switch (major) {
    case 0:
    case 1:
      return offset;
    case 2:
    case 3:
      offset += argument(bytes, start, low, width);
      if (offset > bytes.length) throw new CborError('string longer than the message');
      return offset;
    case 4:
      // A count that the bytes cannot hold ends at the first item that is not there.
      for (let left = argument(bytes, start, low, width); left > 0; left--) {
        offset = checkItem(bytes, offset, depth + 1);
      }
      return offset;
    case 5:
      for (let left = argument(bytes, start, low, width); left > 0; left--) {
        if ((bytes[offset] ?? 0) >> 5 !== 3) throw new CborError('map key is not text');
        offset = checkItem(bytes, checkItem(bytes, offset, depth + 1), depth + 1);
      }
      return offset;
    case 6:
      throw new CborError('tagged value');
    default:
      // false, true, null, undefined, and floats of 16, 32 and 64 bits.
      if ((low < 20 || low > 23) && width < 2) throw new CborError('unknown simple value');
      return offset;
  }
}

/** The number in an item's head: its value, length or count. */
function argument(bytes: Uint8Array, start: number, low: number, width: number): number {
  if (width === 0) return low;
  let value = 0;
  for (let index = 1; index <= width; index++) value = value * 256 + (bytes[start + index] as number);
  return value;
}
