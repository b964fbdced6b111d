/** What was found out about some bytes, while the same ones come again and again. */

/** Entries; one takes the place of another that has the same hash. */
const SLOTS = 256;
/** Bytes of a key at most; longer ones are not kept. */
const MAX_KEY = 1024;

interface Entry<Value> {
  key: Uint8Array;
  value: Value;
}

/** Bounded; a look-up makes nothing. */
export class BytesCache<Value> {
  readonly #slots: (Entry<Value> | undefined)[] = new Array(SLOTS).fill(undefined);
  #last: Entry<Value> | undefined;

  get(bytes: Uint8Array, start: number, end: number): Value | undefined {
    const last = this.#last;
    if (last !== undefined && equals(last.key, bytes, start, end)) return last.value;
    const entry = this.#slots[hash(bytes, start, end)];
    if (entry === undefined || !equals(entry.key, bytes, start, end)) return undefined;
    this.#last = entry;
    return entry.value;
  }

  set(bytes: Uint8Array, start: number, end: number, value: Value): void {
    if (end - start > MAX_KEY) return;
    // A copy, and one that is no part of a larger memory.
    const entry = { key: new Uint8Array(bytes.subarray(start, end)), value };
    this.#slots[hash(bytes, start, end)] = entry;
    this.#last = entry;
  }
}

function hash(bytes: Uint8Array, start: number, end: number): number {
  let hash = end - start;
  for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (bytes[at] as number)) | 0;
  return (hash ^ (hash >>> 15)) & (SLOTS - 1);
}

function equals(key: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (key.length !== end - start) return false;
  for (let at = 0; at < key.length; at++) if (key[at] !== bytes[start + at]) return false;
  return true;
}
