/** Seeded randomness: a test that fails can be repeated with the seed it printed. */

/** xorshift32 of a seed; every method advances it. */
export class Random {
  readonly seed: number;
  #state: number;

  /** `seed` defaults to `$YAVM_SEED`, else the clock. */
  constructor(seed: number = Number(process.env.YAVM_SEED) || Date.now() % 0x7fffffff) {
    this.seed = seed;
    this.#state = seed || 1;
  }

  /** 32 random bits, unsigned. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** `min` ≤ n < `max`. */
  between(min: number, max: number): number {
    return min + (this.next() % (max - min));
  }

  pick<T>(items: readonly T[]): T {
    return items[this.next() % items.length] as T;
  }

  chance(oneIn: number): boolean {
    return this.next() % oneIn === 0;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    const result = new Uint8Array(length);
    for (let index = 0; index < length; index++) result[index] = this.next();
    return result;
  }

  /** A copy of `bytes` with one to `most` changes: bits flipped, bytes set, parts cut, doubled or inserted. */
  mutate(bytes: Uint8Array, most: number = 6): Uint8Array {
    let result = Uint8Array.from(bytes);
    for (let changes = this.between(1, most + 1); changes > 0; changes--) {
      const at = this.between(0, result.length + 1);
      const kind = this.between(0, 5);
      if (kind === 0 && at < result.length) result[at] = (result[at] as number) ^ (1 << this.between(0, 8));
      else if (kind === 1 && at < result.length) result[at] = this.pick([0, 0x7f, 0x80, 0xff, this.next()]);
      else if (kind === 2) result = result.slice(0, at);
      else if (kind === 3) result = joined(result.subarray(0, at), result.subarray(this.between(0, at + 1)));
      else result = joined(result.subarray(0, at), this.bytes(this.between(1, 9)), result.subarray(at));
    }
    return result;
  }
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}
