/**
 * The right to use an image of the cache: it is not evicted as long as somebody holds it. A shared lock on the image
 * itself, so that it goes with the process however that ends.
 */
import { type FileHandle, open } from 'node:fs/promises';
import type { Native } from '../../native/face.ts';
import { sleep } from '../lib/deadline.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';

/** An image that stays where it is until `release`. */
export interface ImageLease {
  readonly path: string;
  /** May be called more than once. */
  release(): Promise<void>;
}

/** Milliseconds between two attempts, and attempts: who evicts an image holds it for two system calls. */
const POLL = 5;
const MAX_ATTEMPTS = 200;

/** An image that is open for reading, with its lease. */
export class LeasedFile implements ImageLease {
  readonly path: string;
  readonly handle: FileHandle;
  #held = true;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.handle = handle;
  }

  /** Null when there is no such file. @throws {YavmError} YAVM_E_IMAGE_CACHE when it is there and cannot be used */
  static async open(path: string, native: Native): Promise<LeasedFile | null> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const handle = await openImage(path);
      if (handle === null) return null;
      try {
        if (native.flock(handle.fd, false) && (await handle.stat()).nlink > 0) {
          return new LeasedFile(path, handle);
        }
      } catch (cause) {
        await handle.close();
        throw new YavmError('YAVM_E_IMAGE_CACHE', `${path}: the cached image cannot be locked`, { cause });
      }
      await handle.close();
      await sleep(POLL);
    }
    throw new YavmError('YAVM_E_IMAGE_CACHE', `${path}: somebody keeps the cached image locked`);
  }

  async release(): Promise<void> {
    if (!this.#held) return;
    this.#held = false;
    await this.handle.close();
  }
}

async function openImage(path: string): Promise<FileHandle | null> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'r');
    if ((await handle.stat()).isFile()) return handle;
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return null;
    throw new YavmError('YAVM_E_IMAGE_CACHE', `${path}: the cached image cannot be read`, { cause });
  }
  await handle.close();
  throw new YavmError('YAVM_E_IMAGE_CACHE', `${path}: not a regular file, in an image's place`);
}
