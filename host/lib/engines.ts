/** Node's engines of zlib and zstd as one stream, for content of several parts: gzip's members, zstd's frames. */
import type { Transform } from 'node:stream';

/** `bytesWritten` is what an engine has used of its input. */
export type Engine = Transform & { readonly bytesWritten: number };

/** Largest window of a zstd frame: what the zstd program takes without being asked to. 128 MiB of memory. */
export const MAX_WINDOW_LOG = 27;

/**
 * Feeds an engine in the background, and yields what comes out. Node's decompressors end with a part, and drop what else
 * is in the same piece: the rest goes to a successor. `pieces` stay the caller's to close.
 */
export async function* throughEngines(
  make: () => Engine,
  pieces: AsyncIterator<Uint8Array>,
): AsyncGenerator<Buffer, void> {
  let rest: Uint8Array | null = null;
  do {
    const engine = make();
    try {
      const feeding = feed(engine, pieces, rest);
      // It is looked at when the output has ended.
      feeding.catch(() => {});
      yield* engine as AsyncIterable<Buffer>;
      rest = await feeding;
    } finally {
      engine.destroy();
    }
  } while (rest);
}

/** Resolves with what the engine did not use, null at the end of all pieces. Its own failures come out with its output. */
async function feed(
  engine: Engine,
  pieces: AsyncIterator<Uint8Array>,
  first: Uint8Array | null,
): Promise<Uint8Array | null> {
  try {
    for (let piece = first ?? (await next(pieces)); piece; piece = await next(pieces)) {
      const before = engine.bytesWritten;
      const over = await write(engine, piece);
      const used = engine.bytesWritten - before;
      if (used < piece.byteLength) return piece.subarray(used);
      if (over) return await next(pieces);
    }
    engine.end();
    return null;
  } catch (error) {
    engine.destroy(error as Error);
    throw error;
  }
}

async function next(pieces: AsyncIterator<Uint8Array>): Promise<Uint8Array | null> {
  const { done, value } = await pieces.next();
  return done ? null : value;
}

/** Resolves when the piece is used, as far as it is; with true when the engine takes no more. */
function write(engine: Engine, piece: Uint8Array): Promise<boolean> {
  return new Promise((resolve) => {
    const done = (over: boolean) => {
      engine.off('end', onEnd);
      engine.off('close', onEnd);
      resolve(over);
    };
    const onEnd = () => done(true);
    engine.once('end', onEnd);
    engine.once('close', onEnd);
    if (engine.destroyed || engine.readableEnded) done(true);
    else engine.write(piece, () => done(engine.readableEnded));
  });
}
