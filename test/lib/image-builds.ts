/** Builds of a test, in a folder of its own. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BuildOptions, buildImage } from '../../host/image/build/build.ts';
import { openSource } from '../../host/image/source/source.ts';
import { type ListedItem, listSquashfs } from './squashfs-listing.ts';
import type { Owner } from './vm.ts';

export interface TestBuild {
  bytes: Buffer;
  tree: Map<string, ListedItem>;
}

export interface ImageBuilds {
  folder: string;
  /** Where each build goes, unless its options say otherwise. */
  output: string;
  /** A file of its own with these bytes. */
  put(bytes: Buffer): string;
  build(reference: string, options?: Partial<BuildOptions>): Promise<TestBuild>;
}

/** The folder is removed with the test. */
export function imageBuilds(t: Owner): ImageBuilds {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-build-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const output = join(folder, 'out.gvmi');
  let files = 0;
  return {
    folder,
    output,
    put(bytes) {
      const path = join(folder, `source-${files++}.tar`);
      writeFileSync(path, bytes);
      return path;
    },
    async build(reference, options = {}) {
      const { signal = new AbortController().signal } = options;
      const source = await openSource(reference, { signal, temp: folder });
      try {
        if (source.kind === 'image') throw new Error('an image already');
        const { path } = await buildImage({
          source,
          output,
          compressor: 'zstd',
          level: 1,
          signal,
          ...options,
        });
        return { bytes: readFileSync(path), tree: listSquashfs(path) };
      } finally {
        source.close();
      }
    },
  };
}
