/** gzip, zstd and deflate, in Node's own threads. */
import type { Transform } from 'node:stream';
import zlib from 'node:zlib';
import type { Bytes } from '../types.ts';
import { archiveError } from './errors.ts';
import { abortable } from './stream.ts';

/** Bytes that come out at a time. */
const PIECE = 64 * 1024;
/** Largest window of a zstd frame: what the zstd program takes without being asked to. 128 MiB of memory. */
const MAX_WINDOW_LOG = 27;

/** What Node's engines have in common. `bytesWritten` is what they have used of their input. */
type Engine = Transform & { readonly bytesWritten: number };

const COMPRESSORS: Readonly<Record<'gzip' | 'zstd' | 'deflate', () => Engine>> = {
  gzip: () => zlib.createGzip({ chunkSize: PIECE }),
  zstd: () =>
    zlib.createZstdCompress({ chunkSize: PIECE, params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 } }),
  deflate: () => zlib.createDeflateRaw({ chunkSize: PIECE }),
};

const DECOMPRESSORS: Readonly<Record<'gzip' | 'zstd' | 'deflate', () => Engine>> = {
  gzip: () => zlib.createGunzip({ chunkSize: PIECE }),
  zstd: () =>
    zlib.createZstdDecompress({
      chunkSize: PIECE,
      params: { [zlib.constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
    }),
  deflate: () => zlib.createInflateRaw({ chunkSize: PIECE }),
};

export function compress(kind: keyof typeof COMPRESSORS, bytes: Bytes, signal: AbortSignal): Bytes {
  return through(COMPRESSORS[kind], bytes, signal);
}

/**
 * Several members or frames, one after the other, are one content; anything else behind them is an error.
 * @throws {YavmError} YAVM_E_ARCHIVE
 */
export async function* decompress(
  kind: keyof typeof DECOMPRESSORS,
  bytes: Bytes,
  signal: AbortSignal,
): Bytes {
  try {
    yield* through(DECOMPRESSORS[kind], bytes, signal);
  } catch (error) {
    if (!isZlibError(error)) throw error;
    throw archiveError(`its ${kind} data are damaged or cut off: ${error.message}`, { cause: error });
  }
}

/**
 * All of a small deflated content, at once: an engine in a thread costs more than the work. Null when it is none of `size`
 * bytes, damaged, or has something behind it.
 */
export function inflateSmall(packed: Uint8Array, size: number): Buffer | null {
  try {
    // With `info` there is an engine beside the bytes, which the types do not know.
    const options = { info: true, maxOutputLength: Math.max(1, size) };
    const result = zlib.inflateRawSync(packed, options) as unknown as { buffer: Buffer; engine: Engine };
    const whole = result.engine.bytesWritten === packed.byteLength && result.buffer.byteLength === size;
    return whole ? result.buffer : null;
  } catch (error) {
    if (isZlibError(error) || error instanceof RangeError) return null;
    throw error;
  }
}

/** Errors of the engines have these codes and a number; those of sources have neither. */
function isZlibError(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  const { code, errno } = error as { code?: unknown; errno?: unknown };
  return typeof errno === 'number' && typeof code === 'string' && /^Z_|^ZSTD_|^ERR_ZLIB/.test(code);
}

/**
 * Feeds an engine in the background, and yields what comes out. An engine that ends before its input does gets a
 * successor for the rest: Node's leave out what stands behind a frame's end.
 */
async function* through(make: () => Engine, input: Bytes, signal: AbortSignal): Bytes {
  const over = new AbortController();
  const pieces = abortable(input, AbortSignal.any([signal, over.signal]));
  const iterator = pieces[Symbol.asyncIterator]();
  let engine = make();
  try {
    let rest: Uint8Array | null = null;
    do {
      const feeding = feed(engine, iterator, rest);
      // It is looked at when the output has ended.
      feeding.catch(() => {});
      yield* engine as AsyncIterable<Uint8Array>;
      rest = await feeding;
      if (rest) {
        engine.destroy();
        engine = make();
      }
    } while (rest);
  } finally {
    engine.destroy();
    over.abort(new Error('nobody reads this any more'));
    await iterator.return?.();
  }
}

/** Resolves with what the engine did not use, null at the input's end. Its own failures come out with its output. */
async function feed(
  engine: Engine,
  iterator: AsyncIterator<Uint8Array>,
  first: Uint8Array | null,
): Promise<Uint8Array | null> {
  let piece = first;
  try {
    for (;;) {
      if (piece === null) {
        const { done, value } = await iterator.next();
        if (done) break;
        piece = value;
      }
      const before = engine.bytesWritten;
      const ended = await write(engine, piece);
      const used = engine.bytesWritten - before;
      if (used < piece.byteLength) return piece.subarray(used);
      if (ended) break;
      piece = null;
    }
    engine.end();
    return null;
  } catch (error) {
    engine.destroy(error as Error);
    throw error;
  }
}

/** Resolves when the engine needs the piece no more; with true when it is over. */
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
