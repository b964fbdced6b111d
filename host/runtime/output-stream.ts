/**
 * A stream from the guest: bytes wait in a ring as large as the window, so what the guest may send always has a place,
 * and a slow reader stops only its own process. Credit goes back as the reader takes the bytes.
 */
import { Readable } from 'node:stream';
import { STREAM_WINDOW } from '../../guest/protocol/frames.ts';
import { deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';

/** Takes bytes; they are valid until it returns, or, when it returns a Promise, until that resolves. */
export type Sink = (bytes: Uint8Array) => void | Promise<void>;

/** Credit is returned in portions: a frame for each small read would cost more than the data. */
const CREDIT_PORTION = STREAM_WINDOW / 2;

interface Consumer {
  sink: Sink;
  resolve(): void;
  reject(error: unknown): void;
}

export class OutputStream {
  readonly id: number;
  readonly #grant: (bytes: number) => void;
  /** Made by the first byte, and kept; starts over at offset 0 whenever it is empty, so little of it is touched. */
  #ring: Uint8Array | null = null;
  #start = 0;
  #used = 0;
  #received = 0;
  #taken = 0;
  #owed = 0;
  #complete = false;
  #error: Error | null = null;
  #consumer: Consumer | null = null;
  #busy = false;
  #discarding = false;
  #watchers: (() => void)[] = [];

  /** `grant` tells the guest that so many more bytes may come. */
  constructor(id: number, grant: (bytes: number) => void) {
    this.id = id;
    this.#grant = grant;
  }

  // ---------------------------------------------------------------- the port's side

  /** Takes bytes that came. @throws {Error} when they are more than the credit given, or come after the end. */
  accept(piece: Uint8Array): void {
    if (this.#complete) throw new Error(`stream ${this.id}: data after its end`);
    if (this.#used + piece.length > STREAM_WINDOW - this.#owed) {
      throw new Error(`stream ${this.id}: more data than credit`);
    }
    this.#received += piece.length;
    if (this.#discarding || this.#error) {
      this.#took(piece.length);
    } else {
      this.#store(piece);
      this.#pump();
    }
    this.#changed();
  }

  /** The guest has said that nothing more comes. */
  end(): void {
    this.#complete = true;
    this.#pump();
    this.#changed();
  }

  /** Nothing more can come, because of `error`. What has come can still be read, then reading fails. */
  fail(error: Error): void {
    if (this.#complete || this.#error) return;
    this.#error = error;
    this.#pump();
    this.#changed();
  }

  /** Why nothing more can come, when the stream broke off. */
  get failure(): Error | null {
    return this.#error;
  }

  /** Bytes that came. */
  get received(): number {
    return this.#received;
  }

  /** Whether a reader has all that came in its hands, or there is nothing to read: the guest is to move next. */
  get drained(): boolean {
    return this.#used === 0;
  }

  /** Resolves when `total` bytes have come and, with a sink attached, were taken by it; or when no more will be. */
  async reached(total: number, what: 'received' | 'taken'): Promise<void> {
    const done = () =>
      this.#error !== null ||
      (what === 'received' ? this.#received : this.#consumer ? this.#taken : Number.POSITIVE_INFINITY) >=
        total ||
      (this.#complete && this.#received < total);
    while (!done()) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  /** Resolves when the guest has said that nothing more comes, or the stream broke off. */
  ended(): Promise<void> {
    return this.reached(Number.POSITIVE_INFINITY, 'received');
  }

  // ---------------------------------------------------------------- the reader's side

  /**
   * Passes everything to `sink`, in order, one call at a time, waiting for the promises that it returns; resolves at
   * the stream's end. When the sink fails, the stream stands still (use {@link discard} to let the process go on).
   * @throws what the sink throws; the VM's error when the stream broke off.
   */
  async consume(sink: Sink): Promise<void> {
    if (this.#consumer) throw new YavmError('YAVM_E_STREAM_BUSY', `stream ${this.id} already has a reader`);
    const { promise, resolve, reject } = deferred<void>();
    this.#consumer = { sink, resolve, reject };
    this.#pump();
    await promise;
  }

  /** Drops what has come and what will come; the process is never held up. */
  discard(): void {
    this.#discarding = true;
    const consumer = this.#consumer;
    this.#consumer = null;
    if (!this.#busy) this.#release(this.#used);
    consumer?.resolve();
    this.#changed();
  }

  /** The stream in chunks of its own memory. Leaving the loop early discards the rest. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    let chunk: Buffer | null = null;
    let finished = false;
    let wake = () => {};
    /** Tells the sink's caller that the chunk was taken: the next may come. */
    let taken = () => {};
    const done = this.consume((bytes) => {
      // A copy: who iterates may keep it.
      chunk = Buffer.from(bytes);
      wake();
      return new Promise<void>((resolve) => {
        taken = resolve;
      });
    }).finally(() => {
      finished = true;
      wake();
    });
    // Awaited below, unless the loop is left before.
    done.catch(() => {});
    try {
      for (;;) {
        if (chunk !== null) {
          const next: Buffer = chunk;
          chunk = null;
          yield next;
          taken();
        } else if (finished) {
          return await done;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      if (!finished) this.discard();
      taken();
    }
  }

  /** As a Node stream. */
  readable(): Readable {
    return Readable.from(this, { objectMode: false, highWaterMark: CREDIT_PORTION });
  }

  /** Everything to the end. @throws {YavmError} YAVM_E_OUTPUT_TOO_LONG beyond `limit` bytes; the rest is discarded. */
  async collect(limit: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let length = 0;
    try {
      await this.consume((bytes) => {
        length += bytes.length;
        if (length > limit)
          throw new YavmError('YAVM_E_OUTPUT_TOO_LONG', `more than ${limit} bytes of output`);
        chunks.push(Buffer.from(bytes));
      });
    } catch (error) {
      this.discard();
      throw error;
    }
    return Buffer.concat(chunks, length);
  }

  // ---------------------------------------------------------------- inside

  #store(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#ring ??= new Uint8Array(STREAM_WINDOW);
    if (this.#used === 0) this.#start = 0;
    const at = (this.#start + this.#used) % STREAM_WINDOW;
    const first = Math.min(piece.length, STREAM_WINDOW - at);
    this.#ring.set(first === piece.length ? piece : piece.subarray(0, first), at);
    if (first < piece.length) this.#ring.set(piece.subarray(first), 0);
    this.#used += piece.length;
  }

  /** Hands waiting bytes to the consumer until it has to be waited for. */
  #pump(): void {
    while (this.#consumer && !this.#busy && this.#used > 0) {
      const { sink } = this.#consumer;
      const ring = this.#ring as Uint8Array;
      // Portions, so that the guest refills one while the sink takes the next.
      const size = Math.min(this.#used, STREAM_WINDOW - this.#start, CREDIT_PORTION);
      const view = ring.subarray(this.#start, this.#start + size);
      this.#busy = true;
      try {
        const taking = sink(view);
        // Not any value: a sink may return what `write` returns.
        if (taking instanceof Promise) {
          taking.then(
            () => {
              this.#handedOver(view.length);
              this.#pump();
            },
            (error) => this.#break(error),
          );
          return;
        }
      } catch (error) {
        this.#break(error);
        return;
      }
      this.#handedOver(view.length);
    }
    this.#settle();
  }

  #handedOver(length: number): void {
    this.#busy = false;
    this.#release(this.#discarding ? this.#used : length);
  }

  /** The sink failed: the bytes stay, nobody reads any more. */
  #break(error: unknown): void {
    this.#busy = false;
    const consumer = this.#consumer;
    this.#consumer = null;
    if (this.#discarding) this.#release(this.#used);
    consumer?.reject(error);
    this.#changed();
  }

  #settle(): void {
    if (!this.#consumer || this.#busy || this.#used > 0) return;
    if (this.#error) this.#consumer.reject(this.#error);
    else if (this.#complete) this.#consumer.resolve();
    else return;
    this.#consumer = null;
  }

  #release(length: number): void {
    this.#start = (this.#start + length) % STREAM_WINDOW;
    this.#used -= length;
    this.#took(length);
    this.#changed();
  }

  #took(length: number): void {
    this.#taken += length;
    this.#owed += length;
    if (this.#complete || this.#error || this.#owed < CREDIT_PORTION) return;
    const owed = this.#owed;
    this.#owed = 0;
    this.#grant(owed);
  }

  #changed(): void {
    if (this.#watchers.length === 0) return;
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const watcher of watchers) watcher();
  }
}
