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

  /** Copies bytes that came otherwise; more than there is room for are an error. */
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

  /** What was filled since the last time, in one piece or two. They are valid until they are freed. */
  take(): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    while (this.waiting > 0) {
      const piece = this.#piece(this.#taken, this.waiting);
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
