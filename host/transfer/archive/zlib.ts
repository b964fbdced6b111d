/** gzip, zstd and deflate, in Node's own threads. */
import zlib from 'node:zlib';
import { type Engine, MAX_WINDOW_LOG, throughEngines } from '../../lib/engines.ts';
import type { Bytes } from '../types.ts';
import { archiveError } from './errors.ts';
import { abortable } from './stream.ts';

/** Bytes that come out at a time. */
const PIECE = 64 * 1024;

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

async function* through(make: () => Engine, input: Bytes, signal: AbortSignal): Bytes {
  const over = new AbortController();
  const pieces = abortable(input, AbortSignal.any([signal, over.signal]));
  const iterator = pieces[Symbol.asyncIterator]();
  try {
    yield* throughEngines(make, iterator);
  } finally {
    over.abort(new Error('nobody reads this any more'));
    await iterator.return?.();
  }
}
