/** Turns a producer that pushes into bytes that are pulled. */
import { deferred } from '../lib/deferred.ts';
import type { Bytes } from './types.ts';

/** Takes bytes; they are valid until its promise resolves. */
export type PushSink = (bytes: Uint8Array) => Promise<void>;

/**
 * The bytes that `produce` pushes into its sink, one piece at a time: the producer waits while nobody asks. Its failure is
 * the iteration's. Leaving the iteration fires the producer's signal, and waits until it has ended.
 */
export async function* pulled(
  produce: (sink: PushSink, signal: AbortSignal) => Promise<unknown>,
  signal: AbortSignal,
): Bytes {
  signal.throwIfAborted();
  const left = new AbortController();
  const queue = new Handover();
  const work = produce(queue.put, AbortSignal.any([signal, left.signal])).then(
    () => queue.end(null),
    (error: unknown) => queue.end({ error }),
  );
  try {
    for (let piece = await queue.take(); piece !== null; piece = await queue.take()) {
      yield piece;
      queue.done();
    }
  } finally {
    left.abort(new Error('nobody reads this any more'));
    queue.close();
    await work;
  }
}

/** Room for one piece between a producer and a consumer. */
class Handover {
  #piece: Uint8Array | null = null;
  /** Resolves when the consumer is done with the piece. */
  #done = deferred<void>();
  /** Resolves when there is a piece, or the end. */
  #there = deferred<void>();
  #end: { error?: unknown } | null = null;
  #closed = false;

  readonly put = (bytes: Uint8Array): Promise<void> => {
    if (this.#closed) return Promise.resolve();
    this.#piece = bytes;
    this.#done = deferred();
    this.#there.resolve();
    return this.#done.promise;
  };

  /** The next piece, until {@link done}; null at the end. @throws what the producer threw */
  async take(): Promise<Uint8Array | null> {
    await this.#there.promise;
    if (this.#piece !== null) return this.#piece;
    if (this.#end && 'error' in this.#end) throw this.#end.error;
    return null;
  }

  /** The piece was used: the producer goes on. */
  done(): void {
    this.#piece = null;
    if (this.#end === null) this.#there = deferred();
    this.#done.resolve();
  }

  /** The producer has ended. */
  end(failure: { error: unknown } | null): void {
    this.#end = failure ?? {};
    this.#there.resolve();
  }

  /** The consumer has left: whatever comes is dropped. */
  close(): void {
    this.#closed = true;
    this.done();
  }
}
