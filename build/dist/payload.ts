/** What the single program carries, and the list of it that host/lib/packed.ts reads. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, zstdCompressSync } from 'node:zlib';
import type { PackedFile, PackedIndex } from '../../host/lib/unpack.ts';

export interface PayloadFile {
  name: string;
  source: string;
  zstd: boolean;
  executable?: true;
}

/** Level of zstd: the kernel takes 20 s at 19, and a third less room than at 3. */
const LEVEL = 19;

/**
 * Writes the packed files and `index.json` into `folder`.
 * @returns the assets, by their names: paths.
 */
export function writePayload(
  folder: string,
  version: string,
  files: readonly PayloadFile[],
): Record<string, string> {
  mkdirSync(folder, { recursive: true });
  const assets: Record<string, string> = {};
  const entries = files.map(({ name, source, zstd, executable }): PackedFile => {
    const bytes = readFileSync(source);
    const path = join(folder, name);
    writeFileSync(path, zstd ? compress(bytes) : bytes);
    assets[name] = path;
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    return { name, size: bytes.length, sha256, zstd, ...(executable && { executable }) };
  });
  assets['index.json'] = join(folder, 'index.json');
  writeFileSync(assets['index.json'], JSON.stringify(indexOf(version, entries)));
  return assets;
}

export function indexOf(version: string, files: PackedFile[]): PackedIndex {
  const hash = createHash('sha256');
  for (const { name, size, sha256 } of files) hash.update(`${name}\0${size}\0${sha256}\n`);
  return { version, id: hash.digest('hex').slice(0, 32), files };
}

function compress(bytes: Uint8Array): Uint8Array {
  return zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } });
}
