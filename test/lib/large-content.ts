/** Much content that need not be kept: the same bytes each time they are asked for, no two pieces alike. */
import { createHash, randomBytes } from 'node:crypto';

const PIECE = 256 * 1024;

export class LargeContent {
  readonly size: number;
  readonly #block = randomBytes(PIECE);

  constructor(size: number) {
    this.size = size;
  }

  /** The bytes from `start` on; a piece is valid until the next one is asked for. */
  *pieces(start = 0): Generator<Buffer> {
    const piece = Buffer.from(this.#block);
    for (let at = start; at < this.size; ) {
      const index = Math.floor(at / PIECE);
      piece.writeUInt32LE(index, 0);
      const from = at - index * PIECE;
      const to = Math.min(PIECE, this.size - index * PIECE);
      yield piece.subarray(from, to);
      at += to - from;
    }
  }

  /** In hex. */
  hash(algorithm = 'sha3-256'): string {
    const hash = createHash(algorithm);
    for (const piece of this.pieces()) hash.update(piece);
    return hash.digest('hex');
  }
}
