/** The data port's streams by number: the host numbers them, both ways, and forgets them at their end. */
import type { FramePort } from './frame-port.ts';
import { InputStream } from './input-stream.ts';
import { OutputStream } from './output-stream.ts';

interface Entry {
  stream: InputStream | OutputStream;
  /** The guest did its part: sent bytes, or gave credit. */
  onProgress?: () => void;
}

const MAX_STREAM = 0xffffffff;

export class Streams {
  readonly #port: FramePort;
  readonly #entries = new Map<number, Entry>();
  #last = 0;

  constructor(port: FramePort) {
    this.#port = port;
  }

  /** A new stream from the guest. */
  openOutput(onProgress?: () => void): OutputStream {
    let owed = 0;
    const stream = new OutputStream(this.#number(), (bytes) => {
      owed += bytes;
      // One credit frame a stream waits for a congested port, not one a portion.
      if (owed > bytes) return;
      this.#port.whenWritable(() => {
        this.#port.sendCredit(stream.id, owed);
        owed = 0;
      });
    });
    this.#entries.set(stream.id, { stream, onProgress });
    return stream;
  }

  /** A new stream to the guest; for `endsWhenBroken` see {@link InputStream}. */
  openInput(onProgress?: () => void, endsWhenBroken = true): InputStream {
    const stream = new InputStream(this.#number(), this.#port, { endsWhenBroken });
    this.#entries.set(stream.id, { stream, onProgress });
    return stream;
  }

  /** Forgets a stream: what still comes for it is dropped. */
  close(id: number): void {
    this.#entries.delete(id);
  }

  /** Bytes came. For a stream that is not known (any more) they are dropped. @throws {Error} beyond the credit. */
  data(id: number, piece: Uint8Array): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    if (entry.stream instanceof InputStream) throw new Error(`stream ${id}: data on a stream to the guest`);
    entry.stream.accept(piece);
    entry.onProgress?.();
  }

  end(id: number): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    if (entry.stream instanceof InputStream) throw new Error(`stream ${id}: end of a stream to the guest`);
    this.#entries.delete(id);
    entry.stream.end();
  }

  credit(id: number, bytes: number): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    if (entry.stream instanceof OutputStream)
      throw new Error(`stream ${id}: credit for a stream from the guest`);
    entry.stream.grant(bytes);
    entry.onProgress?.();
  }

  /** Breaks off every stream. */
  fail(error: Error): void {
    for (const { stream } of this.#entries.values()) stream.fail(error);
    this.#entries.clear();
  }

  #number(): number {
    do this.#last = this.#last >= MAX_STREAM ? 1 : this.#last + 1;
    while (this.#entries.has(this.#last));
    return this.#last;
  }
}
