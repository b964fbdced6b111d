/**
 * The provider's folder of task images, shared by all of its activities and by upstream's exe-units (exe-unit.md 6.2).
 * Images are named by their hash; what is beside them in `.ya-vm/` is ours: locks, part files, and a record of each
 * image that was checked, so that it need not be hashed again.
 */
import type { BigIntStats } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { hashFile } from './hash.ts';
import { cacheName, type Digest } from './location.ts';
import { type ImageLock, lockImage, type WaitOptions } from './lock.ts';
import { PartFile, partSize, removeLeftParts } from './part-file.ts';

const OWN_FOLDER = '.ya-vm';
const MAX_RECORD = 4096;

/** One image's place in the cache. */
export class CacheEntry {
  /** Of the image, whether it is there or not. */
  readonly path: string;
  readonly #name: string;
  readonly #folder: string;
  readonly #own: string;
  readonly #digest: Digest;
  readonly #native: Native;

  constructor(folder: string, url: URL, digest: Digest, native: Native) {
    this.#name = cacheName(url, digest);
    this.#folder = folder;
    this.#own = join(folder, OWN_FOLDER);
    this.path = join(folder, this.#name);
    this.#digest = digest;
    this.#native = native;
  }

  /** Whether the image is there and was checked before, and has not been touched since. Reads none of it. */
  async isChecked(): Promise<boolean> {
    const handle = await this.#open();
    if (handle === null) return false;
    try {
      return (await this.#readRecord()) === recordOf(await handle.stat({ bigint: true }), this.#digest);
    } finally {
      await handle.close();
    }
  }

  /**
   * Whether the image is there and has its hash; finds out by hashing when that is not known. A damaged one is removed.
   * @throws {YavmError} YAVM_E_IMAGE_CACHE; the signal's reason.
   */
  async check(signal: AbortSignal): Promise<boolean> {
    if (await this.isChecked()) return true;
    const handle = await this.#open();
    if (handle === null) return false;
    try {
      const { size } = await handle.stat();
      if ((await hashFile(handle.fd, size, this.#digest.algorithm, signal)) === this.#digest.hex) {
        await this.#remember(handle);
        return true;
      }
    } finally {
      await handle.close();
    }
    await rm(this.path, { force: true });
    return false;
  }

  /** Makes the folders. A cache that cannot be written may still hold the image. */
  async prepare(): Promise<void> {
    await mkdir(this.#own, { recursive: true }).catch(() => {});
  }

  /** lock.ts; `onWait` gets the bytes that others have downloaded so far. */
  lock(
    options: Omit<WaitOptions, 'native' | 'watch'>,
    onWait: (bytes: number) => void,
  ): Promise<ImageLock | null> {
    const watch = async () => {
      const bytes = await partSize(this.#own, this.#name);
      onWait(bytes);
      return bytes;
    };
    return lockImage(join(this.#own, `${this.#name}.lock`), { ...options, native: this.#native, watch });
  }

  async createPart(): Promise<PartFile> {
    // Again, where its error counts.
    await mkdir(this.#own, { recursive: true });
    return await PartFile.create(this.#own, this.#name, this.#digest, this.#native);
  }

  /** Gives a whole and checked part file the image's name, and remembers that it was checked. */
  async publish(part: PartFile): Promise<void> {
    await part.publish(this.path);
    const handle = await this.#open();
    if (handle === null) throw new YavmError('YAVM_E_IMAGE_CACHE', `${this.path}: the image was removed`);
    await this.#remember(handle).finally(() => handle.close());
  }

  /** Removes what killed processes have left. @returns names of the files. */
  cleanUp(): Promise<string[]> {
    return removeLeftParts(this.#own, this.#native);
  }

  /** Bytes that can be written; infinite when the file system does not say. */
  async freeSpace(): Promise<number> {
    const { blocks, bavail, bsize } = await statfs(this.#folder);
    return blocks > 0 ? bavail * bsize : Number.POSITIVE_INFINITY;
  }

  /** Null when there is none. @throws {YavmError} YAVM_E_IMAGE_CACHE when it is there and cannot be used. */
  async #open(): Promise<FileHandle | null> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(this.path, 'r');
      if ((await handle.stat()).isFile()) return handle;
    } catch (cause) {
      if (hasErrno(cause, 'ENOENT')) return null;
      throw new YavmError('YAVM_E_IMAGE_CACHE', `${this.path}: the cached image cannot be read`, { cause });
    }
    await handle.close();
    throw new YavmError('YAVM_E_IMAGE_CACHE', `${this.path}: not a regular file, in an image's place`);
  }

  get #record(): string {
    return join(this.#own, `${this.#name}.json`);
  }

  /** The text of the record; empty when there is none. */
  async #readRecord(): Promise<string> {
    const text = await readFile(this.#record, 'utf8').catch(() => '');
    return text.length > MAX_RECORD ? '' : text;
  }

  /** Losing a record costs one hash: a cache that cannot be written is no reason to fail. */
  async #remember(handle: FileHandle): Promise<void> {
    // Cleaned up like any part file, should we be killed here.
    const fresh = `${this.#record}.${process.pid}.part`;
    try {
      await writeFile(fresh, recordOf(await handle.stat({ bigint: true }), this.#digest), { mode: 0o644 });
      await rename(fresh, this.#record);
    } catch {
      await rm(fresh, { force: true }).catch(() => {});
    }
  }
}

/** What is remembered of a checked file: another inode, size or time, and it is hashed anew. Text, compared as such. */
function recordOf({ ino, size, mtimeNs }: BigIntStats, { algorithm, hex }: Digest): string {
  return `${JSON.stringify({ algorithm, hex, size: `${size}`, mtime: `${mtimeNs}`, inode: `${ino}` })}\n`;
}
