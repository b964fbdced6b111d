/** Disk space that a folder takes: the blocks allocated for what is in it, which is less than file sizes where files are sparse. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** st_blocks counts in these, whatever the file system's own blocks are (stat(2)). */
export const BLOCK = 512;

/** Entries looked at in one measurement: an activity's folder has some ten; a tree beyond this is not ours to walk each second. */
const MAX_ENTRIES = 10_000;

/** Bytes allocated for a folder and everything beneath, links not followed, each file once. What vanishes meanwhile counts nothing. */
export async function allocatedIn(folder: string, maxEntries: number = MAX_ENTRIES): Promise<number> {
  const seen = new Set<string>();
  const waiting = [folder];
  let bytes = 0;
  let left = maxEntries;
  for (let path = waiting.pop(); path !== undefined && left > 0; path = waiting.pop(), left--) {
    try {
      const at = await lstat(path);
      const identity = `${at.dev}:${at.ino}`;
      if (seen.has(identity)) continue;
      seen.add(identity);
      bytes += at.blocks * BLOCK;
      if (at.isDirectory()) for (const name of await readdir(path)) waiting.push(join(path, name));
    } catch {
      // Removed between two looks.
    }
  }
  return bytes;
}

/** Measures a folder again and again, one measurement at a time, so that a slow disk does not pile them up. */
export class FolderGauge {
  readonly #folder: string;
  #bytes = 0;
  #running: Promise<void> | null = null;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The last result; asks for the next one. */
  get bytes(): number {
    void this.refresh();
    return this.#bytes;
  }

  /** Resolves when a measurement that began now, or is under way, is done. */
  refresh(): Promise<void> {
    this.#running ??= allocatedIn(this.#folder)
      .then((bytes) => {
        this.#bytes = bytes;
      })
      .finally(() => {
        this.#running = null;
      });
    return this.#running;
  }
}
