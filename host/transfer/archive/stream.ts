/** Bytes on their way through: abortable, in pieces of a sensible size, and never too long in one turn of the event loop. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Bytes } from '../types.ts';

const KIB = 1024;
/** Largest piece that is handled at a time. */
export const CHUNK = 256 * KIB;

/**
 * The same bytes in pieces of at most {@link CHUNK}, with turns for others between them. When `signal` fires, a wait for the next ends at once with its
 * reason, whatever the source does about it.
 */
export async function* abortable(bytes: Bytes, signal: AbortSignal): Bytes {
  signal.throwIfAborted();
  const iterator = bytes[Symbol.asyncIterator]();
  // One promise for each wait: a race against one that lasts would add to it each time.
  let interrupt: (reason: unknown) => void = () => {};
  const onAbort = () => interrupt(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  const pace = new Pace();
  let waiting = false;
  try {
    for (;;) {
      // It may have fired while nobody asked.
      signal.throwIfAborted();
      waiting = true;
      const { done, value } = await new Promise<IteratorResult<Uint8Array, unknown>>((resolve, reject) => {
        interrupt = reject;
        iterator.next().then(resolve, reject);
      });
      waiting = false;
      if (done) return;
      await pace.spend(value.byteLength);
      for (let at = 0; at < value.byteLength; at += CHUNK) yield value.subarray(at, at + CHUNK);
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    const left = Promise.resolve(iterator.return?.());
    // A source that is waited for cannot be left before it answers; it has the same signal.
    if (waiting) left.catch(() => {});
    else await left;
  }
}

/** Small pieces are put together up to this size: each costs the next in line as much as a large one. */
const GATHERED = 64 * KIB;
/** From this size on a piece is passed on as it is. */
const LARGE = 16 * KIB;

/** The same bytes in fewer, larger pieces. */
export async function* gathered(bytes: Bytes): Bytes {
  const buffer = Buffer.allocUnsafeSlow(GATHERED);
  let filled = 0;
  for await (const piece of bytes) {
    if (filled > 0 && (piece.byteLength >= LARGE || filled + piece.byteLength > GATHERED)) {
      yield buffer.subarray(0, filled);
      filled = 0;
    }
    if (piece.byteLength >= LARGE) {
      yield piece;
    } else {
      buffer.set(piece, filled);
      filled += piece.byteLength;
    }
  }
  if (filled > 0) yield buffer.subarray(0, filled);
}

/** Bytes, or as much work as they make, between two turns. */
const WORK = 1024 * KIB;

/** Lets other things happen, however fast a source is: bytes that are in memory already never wait by themselves. */
export class Pace {
  #work = 0;

  /** `work`: bytes, or what costs as much. Undefined when there is time left. */
  spend(work: number): Promise<void> | undefined {
    this.#work += work;
    if (this.#work < WORK) return undefined;
    this.#work = 0;
    return nextTurn();
  }
}

/** All of a few bytes. `most`: more are an error of the caller's. */
export async function collected(bytes: Bytes, size: number): Promise<Buffer> {
  const result = Buffer.allocUnsafe(size);
  let filled = 0;
  for await (const piece of bytes) {
    result.set(piece, filled);
    filled += piece.byteLength;
  }
  return result.subarray(0, filled);
}

export async function* one(piece: Uint8Array): Bytes {
  if (piece.byteLength > 0) yield piece;
}
