/** Values by IP address, found by the address's bytes in a frame: nothing is made for a look-up, of either family. */

/** Slots at first; doubled when half are taken. A power of two. */
const FIRST_SLOTS = 16;

export class AddressTable<Value> {
  readonly #four = new WordTable<Value>(1);
  readonly #six = new WordTable<Value>(4);

  get size(): number {
    return this.#four.size + this.#six.size;
  }

  /** By the four bytes at `at`. */
  find4(bytes: Uint8Array, at: number): Value | undefined {
    return this.#four.find(bytes, at);
  }

  /** By the sixteen bytes at `at`. */
  find6(bytes: Uint8Array, at: number): Value | undefined {
    return this.#six.find(bytes, at);
  }

  /** @param address 4 or 16 bytes. */
  get(address: Uint8Array): Value | undefined {
    return this.#of(address).find(address, 0);
  }

  set(address: Uint8Array, value: Value): void {
    this.#of(address).set(address, value);
  }

  delete(address: Uint8Array): void {
    this.#of(address).delete(address);
  }

  *values(): Generator<Value> {
    yield* this.#four.values();
    yield* this.#six.values();
  }

  #of(address: Uint8Array): WordTable<Value> {
    return address.length === 4 ? this.#four : this.#six;
  }
}

/** Open addressing, one slot after the other. Keys are signed words, so that none needs more than a machine word. */
class WordTable<Value> {
  size = 0;
  readonly #words: number;
  /** Peers choose addresses: which ones meet in a slot is not for them to know. */
  readonly #seed = Math.floor(Math.random() * 0x7fffffff);
  #keys: Int32Array;
  #values: (Value | undefined)[];

  constructor(words: number) {
    this.#words = words;
    this.#keys = new Int32Array(words * FIRST_SLOTS);
    this.#values = new Array(FIRST_SLOTS).fill(undefined);
  }

  find(bytes: Uint8Array, at: number): Value | undefined {
    return this.#values[this.#slot(bytes, at)];
  }

  set(bytes: Uint8Array, value: Value): void {
    let slot = this.#slot(bytes, 0);
    if (this.#values[slot] === undefined) {
      if (2 * (this.size + 1) > this.#values.length) {
        this.#grow();
        slot = this.#slot(bytes, 0);
      }
      for (let word = 0; word < this.#words; word++) {
        this.#keys[slot * this.#words + word] = wordAt(bytes, 4 * word);
      }
      this.size++;
    }
    this.#values[slot] = value;
  }

  delete(bytes: Uint8Array): void {
    let hole = this.#slot(bytes, 0);
    if (this.#values[hole] === undefined) return;
    this.size--;
    const mask = this.#values.length - 1;
    // What comes behind moves up, unless it would stand before the slot where its search begins.
    for (let slot = (hole + 1) & mask; this.#values[slot] !== undefined; slot = (slot + 1) & mask) {
      const home = this.#hashOfSlot(slot) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#values[hole] = this.#values[slot];
      this.#keys.copyWithin(hole * this.#words, slot * this.#words, (slot + 1) * this.#words);
      hole = slot;
    }
    this.#values[hole] = undefined;
  }

  *values(): Generator<Value> {
    for (const value of this.#values) if (value !== undefined) yield value;
  }

  /** Where the key is, or would be. */
  #slot(bytes: Uint8Array, at: number): number {
    const mask = this.#values.length - 1;
    let hash = this.#seed;
    for (let word = 0; word < this.#words; word++) hash = mix(hash, wordAt(bytes, at + 4 * word));
    let slot = hash & mask;
    while (this.#values[slot] !== undefined && !this.#holds(slot, bytes, at)) slot = (slot + 1) & mask;
    return slot;
  }

  #holds(slot: number, bytes: Uint8Array, at: number): boolean {
    const first = slot * this.#words;
    for (let word = 0; word < this.#words; word++) {
      if (this.#keys[first + word] !== wordAt(bytes, at + 4 * word)) return false;
    }
    return true;
  }

  #hashOfSlot(slot: number): number {
    let hash = this.#seed;
    for (let word = 0; word < this.#words; word++) {
      hash = mix(hash, this.#keys[slot * this.#words + word] as number);
    }
    return hash;
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#keys = new Int32Array(2 * keys.length);
    this.#values = new Array(2 * values.length).fill(undefined);
    const mask = this.#values.length - 1;
    for (const [from, value] of values.entries()) {
      if (value === undefined) continue;
      let hash = this.#seed;
      for (let word = 0; word < this.#words; word++) {
        hash = mix(hash, keys[from * this.#words + word] as number);
      }
      let slot = hash & mask;
      while (this.#values[slot] !== undefined) slot = (slot + 1) & mask;
      this.#keys.set(keys.subarray(from * this.#words, (from + 1) * this.#words), slot * this.#words);
      this.#values[slot] = value;
    }
  }
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x9e3779b1);
  return mixed ^ (mixed >>> 15);
}
