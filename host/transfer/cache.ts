/**
 * The provider's folder of task images, shared by all of its activities and by upstream's exe-units (exe-unit.md 6.2).
 * Images are named by their hash; what is beside them in `.ya-vm/` is ours: locks, part files, and a record of each
 * image that was checked, so that it need not be hashed again. The record's time is that of the image's last use.
 */
import type { BigIntStats } from 'node:fs';
import { readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { CacheRoom } from './cache-room.ts';
import { hashFile } from './hash.ts';
import type { Beginning } from './identity.ts';
import { type ImageLease, LeasedFile } from './lease.ts';
import { adoptPart, namesIn, partSize, sweep } from './left-parts.ts';
import { cacheName, type Digest, isImageName } from './location.ts';
import { type ImageLock, lockImage, type WaitOptions } from './lock.ts';
import { PartFile, RECORD_SUFFIX } from './part-file.ts';

const OWN_FOLDER = '.ya-vm';
const MAX_RECORD = 4096;

export interface CacheOptions {
  folder: string;
  url: URL;
  digest: Digest;
  native: Native;
  logger: Logger;
  /** Most bytes of the folder's files (cache-room.ts). */
  limit?: number;
}

/** One image's place in the cache. */
export class CacheEntry {
  /** Of the image, whether it is there or not. */
  readonly path: string;
  readonly room: CacheRoom;
  readonly #name: string;
  readonly #own: string;
  readonly #options: CacheOptions;

  constructor(options: CacheOptions) {
    const { folder, url, digest } = options;
    this.#name = cacheName(url, digest);
    this.#own = join(folder, OWN_FOLDER);
    this.path = join(folder, this.#name);
    this.room = new CacheRoom({ ...options, own: this.#own });
    this.#options = options;
  }

  /** The image, if it is there, was checked before, and has not been touched since. Reads none of it. */
  async checked(): Promise<ImageLease | null> {
    const file = await LeasedFile.open(this.path, this.#options.native);
    if (file === null) return null;
    if (await this.#isRecorded(file)) return await this.#used(file);
    await file.release();
    return null;
  }

  /**
   * The image, if it is there and has its hash; finds out by hashing when that is not known. A damaged one is removed.
   * @throws {YavmError} YAVM_E_IMAGE_CACHE; the signal's reason.
   */
  async check(signal: AbortSignal): Promise<ImageLease | null> {
    const file = await LeasedFile.open(this.path, this.#options.native);
    if (file === null) return null;
    let right = false;
    try {
      if (await this.#isRecorded(file)) {
        right = true;
        return await this.#used(file);
      }
      const { algorithm, hex } = this.#options.digest;
      const { size } = await file.handle.stat();
      right = (await hashFile(file.handle.fd, size, algorithm, signal)) === hex;
      if (right) {
        await this.#remember(file);
        return file;
      }
    } finally {
      if (!right) await file.release();
    }
    await rm(this.path, { force: true });
    return null;
  }

  /** Makes the folders. A cache that cannot be written may still hold the image. */
  async prepare(): Promise<void> {
    try {
      makeFolders(this.#own);
    } catch {
      return;
    }
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
    const { native } = this.#options;
    return lockImage(join(this.#own, `${this.#name}.lock`), { ...options, native, watch });
  }

  /** A part file to download into, with what another process has left in it; without `resume` an empty one. */
  async openPart(resume: boolean): Promise<{ part: PartFile; beginning: Beginning | null }> {
    const { url, digest, native } = this.#options;
    const options = { folder: this.#own, name: this.#name, url, digest, native, room: this.room };
    // Again, where its error counts.
    makeFolders(this.#own);
    return (
      (resume ? await adoptPart(options) : null) ?? { part: await PartFile.create(options), beginning: null }
    );
  }

  /** Gives a whole and checked part file the image's name, and remembers that it was checked. */
  async publish(part: PartFile): Promise<ImageLease> {
    await part.publish(this.path);
    const file = await LeasedFile.open(this.path, this.#options.native);
    await part.close();
    if (file === null) throw new YavmError('YAVM_E_IMAGE_CACHE', `${this.path}: the image was removed`);
    await this.#remember(file);
    return file;
  }

  /** Removes what killed processes have left, and nobody continues. @returns names of the files. */
  cleanUp(): Promise<string[]> {
    const { folder, native } = this.#options;
    const images = new Set(namesIn(folder).filter(isImageName));
    return sweep(this.#own, { name: this.#name, native, images });
  }

  get #record(): string {
    return join(this.#own, this.#name + RECORD_SUFFIX);
  }

  async #isRecorded({ handle }: LeasedFile): Promise<boolean> {
    const text = await readFile(this.#record, 'utf8').catch(() => '');
    const at = await handle.stat({ bigint: true });
    return text.length <= MAX_RECORD && text === recordOf(at, this.#options.digest);
  }

  /** Now is when it was used last. A cache that cannot be written evicts nothing either. */
  async #used(file: LeasedFile): Promise<ImageLease> {
    const now = new Date();
    await utimes(this.#record, now, now).catch(() => {});
    return file;
  }

  /** Losing a record costs one hash: a cache that cannot be written is no reason to fail. */
  async #remember({ handle }: LeasedFile): Promise<void> {
    // Cleaned up like any record without its file, should we be killed here.
    const fresh = `${this.#record}.${process.pid}${RECORD_SUFFIX}`;
    try {
      const text = recordOf(await handle.stat({ bigint: true }), this.#options.digest);
      await writeFile(fresh, text, { mode: 0o644 });
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
