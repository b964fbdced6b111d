/** The content of a file that is new: it is written from its beginning to its end. */
import type { Native } from '../../native/face.ts';

export class NewFile {
  readonly #native: Native;
  readonly #fd: number;
  #size = 0;
  #endsInHole = false;

  /** `fd`: empty, and its owner's to close. */
  constructor(native: Native, fd: number) {
    this.#native = native;
    this.#fd = fd;
  }

  /** Appends; runs of zeros become holes. Fastest in pieces of whole blocks. @throws NativeError */
  write(piece: Uint8Array): void {
    this.#endsInHole = this.#native.writeSparse(this.#fd, piece, this.#size) > 0;
    this.#size += piece.byteLength;
  }

  /** To be called after the last byte. @throws NativeError */
  end(): void {
    if (this.#endsInHole) this.#native.truncate(this.#fd, this.#size);
  }
}
