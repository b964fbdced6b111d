/** An output stream whose bytes do not come from a port: whoever has them feeds them in, at its reader's pace. */
import { STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import { OutputStream } from './output-stream.ts';

export class OutputFeed {
  readonly stream: OutputStream;
  /** What the stream has room for, bytes. */
  #credit = STREAM_WINDOW;
  #wake = () => {};

  constructor() {
    this.stream = new OutputStream(0, (bytes) => {
      this.#credit += bytes;
      this.#wake();
    });
  }

  /** Resolves when the stream has all of them, in its ring or with its reader. Not to be called again before. */
  async put(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; ) {
      if (this.#credit === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      const piece = bytes.subarray(offset, offset + this.#credit);
      this.#credit -= piece.length;
      offset += piece.length;
      this.stream.accept(piece);
    }
  }
}
