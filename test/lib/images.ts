/** Images for tests, made by mksquashfs from files in memory. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { encodeTrailer } from '../../host/image/gvmi.ts';
import { writeTree } from './kernel-fixture.ts';

/** A real image of gvmkit-build, outside this repository. */
export const ALPINE_IMAGE = resolve(import.meta.dirname, '../../../shared/fixtures/images/alpine.gvmi');

/** tap's `skip`: false where the image is there, else the reason. */
export const withoutAlpine: string | false = existsSync(ALPINE_IMAGE)
  ? false
  : 'shared/fixtures/images/alpine.gvmi is not beside this checkout';

export interface ImageParts {
  /** Path in the image → content. */
  files?: Record<string, string | Uint8Array>;
  /** Pseudo-file definitions of mksquashfs: what files in memory cannot say. */
  pseudo?: readonly string[];
  /** Docker's ContainerConfig; without it a plain squashfs is made. */
  config?: object;
  compressor?: string;
}

/** Makes an image; everything in it belongs to root, but for what pseudo-files say. Needs no root. */
export function makeImage(path: string, parts: ImageParts): void {
  const { files = {}, pseudo = [], config, compressor = 'gzip' } = parts;
  const folder = mkdtempSync(join(tmpdir(), 'yavm-image-'));
  try {
    // It becomes the root of the image, where other users have to get in too.
    chmodSync(folder, 0o755);
    writeTree(folder, files);
    const definitions = pseudo.flatMap((line) => ['-p', line]);
    const quiet = ['-noappend', '-quiet', '-no-progress', '-all-root', '-no-xattrs'];
    execFileSync('mksquashfs', [folder, path, '-comp', compressor, ...quiet, ...definitions], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
  if (config) appendFileSync(path, encodeTrailer(config));
}
