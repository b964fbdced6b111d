/** Decompressors as streams that can stand in a pipeline. */
import { Duplex } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { type Engine, MAX_WINDOW_LOG, throughEngines } from '../../lib/engines.ts';

/** Bytes that come out at a time. */
const CHUNK = 256 * 1024;

export const gunzip = (): Duplex => successive(() => createGunzip({ chunkSize: CHUNK }));

export const unzstd = (): Duplex =>
  successive(() =>
    createZstdDecompress({ chunkSize: CHUNK, params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG } }),
  );

function successive(make: () => Engine): Duplex {
  return Duplex.from((source: AsyncIterable<Buffer>) => throughEngines(make, source[Symbol.asyncIterator]()));
}
