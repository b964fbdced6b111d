/**
 * CBOR by cbor-x, for every program that is not `/init` (which takes guest/lib/cbor.ts, by the import condition `guest`),
 * with a strict look at the bytes before the library decodes them.
 *
 * cbor-x reads far more than our messages need: tags that build dates, errors, shared and cyclic values, records that are
 * compiled with `new Function`. A peer that is not trusted must not reach any of that, so only the plain data model
 * passes: integers, floats, text, byte strings, arrays, maps with text keys, booleans, null and undefined, all of
 * definite length and inside the message.
 */

import { Decoder, Encoder } from 'cbor-x';

/** Byte strings carry no tag, maps are objects without record definitions (what any CBOR library reads), and are copied
 * out of the frame they came in, which is reused for the next. */
const options = {
  tagUint8Array: false,
  useRecords: false,
  mapsAsObjects: true,
  int64AsNumber: true,
  copyBuffers: true,
};
const encoder = new Encoder(options);
const decoder = new Decoder(options);

/** Nesting allowed; our deepest message has 6 levels. */
const MAX_DEPTH = 16;
/**
 * Values in one message, the names in maps included, and how many of them may be lists, maps and byte strings. An empty
 * one of those is one byte here and some hundred in a JavaScript heap: a message of 1 MiB could take 300 MiB.
 */
export const MAX_VALUES = 65_536;
export const MAX_OBJECTS = 8192;

/** Bytes that are no message of ours. */
export class CborError extends Error {
  override name = 'CborError';
}

export function encodeCbor(value: unknown): Uint8Array {
  return encoder.encode(value);
}

/** Decodes one complete, plain value. @throws {CborError} */
export function decodeCbor(bytes: Uint8Array): unknown {
  checkCbor(bytes);
  return decoder.decode(bytes);
}

/** Passes one complete, plain CBOR value. Takes time in proportion to its bytes, and no memory. @throws {CborError} */
export function checkCbor(bytes: Uint8Array): void {
  const end = checkItem(bytes, 0, 0, { values: MAX_VALUES, objects: MAX_OBJECTS });
  if (end !== bytes.length) throw new CborError(`${bytes.length - end} bytes after the message`);
}

/** What a message may still hold. */
interface Room {
  values: number;
  objects: number;
}

/** Checks the item at `start`; returns the offset after it. */
function checkItem(bytes: Uint8Array, start: number, depth: number, room: Room): number {
  if (--room.values < 0) throw new CborError(`more than ${MAX_VALUES} values`);
  if (depth > MAX_DEPTH) throw new CborError(`nested deeper than ${MAX_DEPTH}`);
  const initial = bytes[start];
  if (initial === undefined) throw new CborError('message cut off');
  const major = initial >> 5;
  const low = initial & 0x1f;
  const width = low < 24 ? 0 : low < 28 ? 1 << (low - 24) : -1;
  if (width < 0) throw new CborError('indefinite length');
  let offset = start + 1 + width;
  if (offset > bytes.length) throw new CborError('message cut off');
  if ((major === 2 || major === 4 || major === 5) && --room.objects < 0) {
    throw new CborError(`more than ${MAX_OBJECTS} lists, maps and byte strings`);
  }
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
        offset = checkItem(bytes, offset, depth + 1, room);
      }
      return offset;
    case 5:
      for (let left = argument(bytes, start, low, width); left > 0; left--) {
        if ((bytes[offset] ?? 0) >> 5 !== 3) throw new CborError('map key is not text');
        const key = offset;
        offset = checkItem(bytes, offset, depth + 1, room);
        if (isPrototype(bytes, key, offset)) throw new CborError('map key __proto__');
        offset = checkItem(bytes, offset, depth + 1, room);
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

/** Whether the text from `start` to `end` is `__proto__`: setting it would change what the object inherits from. */
function isPrototype(bytes: Uint8Array, start: number, end: number): boolean {
  const name = '__proto__';
  if (end - start < name.length + 1) return false;
  const from = end - name.length;
  // Longer heads than needed are allowed, so the text is found from its end, and its length from its head.
  if (argument(bytes, start, (bytes[start] as number) & 0x1f, headWidth(bytes, start)) !== name.length)
    return false;
  for (let index = 0; index < name.length; index++) {
    if (bytes[from + index] !== name.charCodeAt(index)) return false;
  }
  return true;
}

/** Bytes of an item's argument after its first byte. */
function headWidth(bytes: Uint8Array, start: number): number {
  const low = (bytes[start] as number) & 0x1f;
  return low < 24 ? 0 : 1 << (low - 24);
}

/** The number in an item's head: its value, length or count. */
function argument(bytes: Uint8Array, start: number, low: number, width: number): number {
  if (width === 0) return low;
  let value = 0;
  for (let index = 1; index <= width; index++) value = value * 256 + (bytes[start + index] as number);
  return value;
}
