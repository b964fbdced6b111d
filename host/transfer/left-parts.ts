/** What downloads leave in the cache's own folder when they are killed. */
import { readdirSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../lib/errors.ts';
import type { Beginning } from './identity.ts';
import { lockIfNamed, PART_SUFFIX, PartFile, type PartOptions, RECORD_SUFFIX } from './part-file.ts';

/** Milliseconds after which nobody comes back for a part. */
const LIFETIME = 24 * 3600 * 1000;

/** Bytes of the part files for `name` that are there now: what others have downloaded so far. */
export async function partSize(folder: string, name: string): Promise<number> {
  let sum = 0;
  for (const file of namesIn(folder).filter((file) => isPartOf(file, name))) {
    await withFile(join(folder, file), async (handle) => {
      const { size, blocks } = await handle.stat();
      // Of several connections' part there are gaps.
      sum += Math.min(size, blocks * 512);
    });
  }
  return sum;
}

/** Takes over the part of this image whose download got furthest; null when none can be continued. */
export async function adoptPart(
  options: PartOptions,
): Promise<{ part: PartFile; beginning: Beginning } | null> {
  let best: { part: PartFile; beginning: Beginning } | null = null;
  for (const file of namesIn(options.folder).filter((file) => isPartOf(file, options.name))) {
    const found = await PartFile.adopt(join(options.folder, file), options);
    if (found === null) continue;
    const better = best === null || found.beginning.size > best.beginning.size;
    await (better ? best : found)?.part.discard();
    if (better) best = found;
  }
  return best;
}

/**
 * Removes what nobody continues: parts of the image `name`, and of any image when they are a day old; records without
 * their file. `images` are the names of all images.
 * @returns names of the part files.
 */
export async function sweep(
  folder: string,
  { name, native, images }: { name: string; native: Native; images: ReadonlySet<string> },
): Promise<string[]> {
  const removed: string[] = [];
  for (const file of namesIn(folder)) {
    const path = join(folder, file);
    if (file.endsWith(PART_SUFFIX)) {
      const over = isPartOf(file, name) ? 0 : LIFETIME;
      if (await removePart(path, native, over)) removed.push(file);
    } else if (file.endsWith('.lock')) {
      await removeUnlocked(path, native, LIFETIME);
    } else if (file.endsWith(RECORD_SUFFIX) && !images.has(file.slice(0, -RECORD_SUFFIX.length))) {
      const part = file.slice(0, -RECORD_SUFFIX.length);
      if (!part.endsWith(PART_SUFFIX) || !namesIn(folder).includes(part)) await removeUnlocked(path, native);
    }
  }
  return removed;
}

/** Removes a part with its record, unless its writer is there; `age`: milliseconds since the last write. */
export async function removePart(path: string, native: Native, age = 0): Promise<boolean> {
  if (!(await removeUnlocked(path, native, age))) return false;
  await rm(path + RECORD_SUFFIX, { force: true });
  return true;
}

async function removeUnlocked(path: string, native: Native, age = 0): Promise<boolean> {
  let removed = false;
  await withFile(path, async (handle) => {
    if (Date.now() - (await handle.stat()).mtimeMs < age || !(await lockIfNamed(handle, native))) return;
    await rm(path, { force: true });
    removed = true;
  });
  return removed;
}

/** Opens a file that may be gone by now, or be none of ours. */
async function withFile(path: string, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(path, 'r').catch(() => null);
  if (handle === null) return;
  await use(handle).finally(() => handle.close());
}

function isPartOf(file: string, name: string): boolean {
  return file.startsWith(`${name}.`) && file.endsWith(PART_SUFFIX);
}

/** Names in a folder that may not be there. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return [];
    throw error;
  }
}
