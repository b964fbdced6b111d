/** Node's decompressors as one stream for content of several parts: gzip's members, zstd's frames. */
import { Duplex, type Transform } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';

/** `bytesWritten` is what an engine has used of its input. */
type Engine = Transform & { readonly bytesWritten: number };

/** Bytes that come out at a time. */
const CHUNK = 256 * 1024;
/** Largest window of a zstd frame: what the zstd program takes without being asked to. 128 MiB of memory. */
const MAX_WINDOW_LOG = 27;

export const gunzip = (): Duplex => successive(() => createGunzip({ chunkSize: CHUNK }));

export const unzstd = (): Duplex =>
  successive(() =>
    createZstdDecompress({ chunkSize: CHUNK, params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG } }),
  );

/** Node's engine ends with a part, and drops what else is in the same piece: the rest goes to a successor. */
function successive(make: () => Engine): Duplex {
  return Duplex.from(async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const pieces = source[Symbol.asyncIterator]();
    let rest: Buffer | null = null;
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
  });
}

/** Resolves with what the engine did not use, null at the end of all pieces. */
async function feed(
  engine: Engine,
  pieces: AsyncIterator<Buffer>,
  first: Buffer | null,
): Promise<Buffer | null> {
  try {
    for (let piece = first ?? (await next(pieces)); piece; piece = await next(pieces)) {
      const before = engine.bytesWritten;
      const over = await write(engine, piece);
      const used = engine.bytesWritten - before;
      if (used < piece.length) return piece.subarray(used);
      if (over) return await next(pieces);
    }
    engine.end();
    return null;
  } catch (error) {
    engine.destroy(error as Error);
    throw error;
  }
}

async function next(pieces: AsyncIterator<Buffer>): Promise<Buffer | null> {
  const { done, value } = await pieces.next();
  return done ? null : value;
}

/** Resolves when the piece is used, as far as it is; with true when the engine takes no more. Its failures come out with its output. */
function write(engine: Engine, piece: Buffer): Promise<boolean> {
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
