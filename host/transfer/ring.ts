/** Shared memory that is filled at one end and freed at the other, again and again: bytes that make no garbage. */
export class Ring {
  readonly #bytes: Uint8Array;
  /** Bytes so far. */
  #filled = 0;
  #taken = 0;
  #freed = 0;

  /** @param size Bytes. */
  constructor(size: number) {
    this.#bytes = new Uint8Array(new SharedArrayBuffer(size));
  }

  /** Of all pieces. */
  get memory(): ArrayBufferLike {
    return this.#bytes.buffer;
  }

  /** Bytes that are free. */
  get room(): number {
    return this.#bytes.length - (this.#filled - this.#freed);
  }

  /** Bytes that {@link take} would give. */
  get waiting(): number {
    return this.#filled - this.#taken;
  }

  /** What is free in one piece, to be filled from its beginning. */
  space(): Uint8Array {
    return this.#piece(this.#filled, this.room);
  }

  /** So many bytes of {@link space} are filled. */
  fill(count: number): void {
    this.#filled += count;
  }

  /** Copies bytes that came otherwise. @throws {RangeError} there is no room */
  put(bytes: Uint8Array): void {
    if (bytes.length > this.room) throw new RangeError(`${bytes.length} bytes for a room of ${this.room}`);
    for (let at = 0; at < bytes.length; ) {
      const space = this.space();
      const part = bytes.subarray(at, at + space.length);
      space.set(part);
      this.fill(part.length);
      at += part.length;
    }
  }

  /** What was filled since the last time, in one piece or two; at most so many bytes. They are valid until they are freed. */
  take(most: number): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    const end = this.#taken + Math.min(this.waiting, most);
    while (this.#taken < end) {
      const piece = this.#piece(this.#taken, end - this.#taken);
      pieces.push(piece);
      this.#taken += piece.length;
    }
    return pieces;
  }

  /** So many bytes are not needed any more, the first that were taken. */
  free(count: number): void {
    this.#freed += count;
  }

  #piece(from: number, most: number): Uint8Array {
    const start = from % this.#bytes.length;
    return this.#bytes.subarray(start, start + most);
  }
}
