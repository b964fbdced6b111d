/**
 * A file that is being downloaded: under a name of its own until it is whole, hashed as it grows. Its writer holds a
 * lock on it, so that what a killed one left can be told from what is in use.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../lib/errors.ts';
import { FileHasher } from './hash.ts';
import type { Sink } from './http.ts';
import type { Digest } from './location.ts';

const SUFFIX = '.part';
/** A cleaner comes between creation and lock: rare. */
const MAX_ATTEMPTS = 100;

export class PartFile implements Sink {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #digest: Digest;
  /** Made with the first byte: most failures come before. */
  #hasher: FileHasher | null = null;
  #size = 0;
  #open = true;

  private constructor(path: string, handle: FileHandle, digest: Digest) {
    this.#path = path;
    this.#handle = handle;
    this.#digest = digest;
  }

  /** Makes an empty one in `folder` for the image `name`. @throws the system's error. */
  static async create(folder: string, name: string, digest: Digest, native: Native): Promise<PartFile> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const path = join(folder, `${name}.${process.pid}-${randomBytes(4).toString('hex')}${SUFFIX}`);
      const handle = await open(path, 'wx+', 0o644);
      const locked = await lockIfNamed(handle, native).catch(() => false);
      if (locked) return new PartFile(path, handle, digest);
      await handle.close();
    }
    throw new Error(`${folder}: no file could be made and locked in ${MAX_ATTEMPTS} attempts`);
  }

  get size(): number {
    return this.#size;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      const length = bytes.byteLength - done;
      const { bytesWritten } = await this.#handle.write(bytes, done, length, this.#size);
      done += bytesWritten;
      this.#size += bytesWritten;
    }
    this.#hasher ??= new FileHasher(this.#handle.fd, this.#digest.algorithm);
    this.#hasher.advance(this.#size);
  }

  async restart(): Promise<void> {
    await this.#closeHasher();
    this.#size = 0;
    await this.#handle.truncate(0);
  }

  /** The digest of everything written, in hex. */
  digest(): Promise<string> {
    this.#hasher ??= new FileHasher(this.#handle.fd, this.#digest.algorithm);
    return this.#hasher.digest();
  }

  /** Gives the whole file its name, on the disk before it is seen: a power cut leaves all of it, or nothing. */
  async publish(path: string): Promise<void> {
    await this.#handle.datasync();
    await rename(this.#path, path);
    await this.#close();
  }

  /** Removes it, unless it was published. Never fails. */
  async discard(): Promise<void> {
    if (!this.#open) return;
    await rm(this.#path, { force: true }).catch(() => {});
    await this.#close().catch(() => {});
  }

  async #close(): Promise<void> {
    this.#open = false;
    await this.#closeHasher();
    await this.#handle.close();
  }

  async #closeHasher(): Promise<void> {
    await this.#hasher?.close();
    this.#hasher = null;
  }
}

/** Bytes of the part files for `name` that are there now: what others have downloaded so far. */
export async function partSize(folder: string, name: string): Promise<number> {
  let sum = 0;
  for (const file of partFiles(folder).filter((file) => file.startsWith(`${name}.`))) {
    const handle = await open(join(folder, file), 'r').catch(() => null);
    if (handle === null) continue;
    sum += (await handle.stat().finally(() => handle.close())).size;
  }
  return sum;
}

/** Removes part files whose writers are gone. @returns their names. */
export async function removeLeftParts(folder: string, native: Native): Promise<string[]> {
  const removed: string[] = [];
  for (const file of partFiles(folder)) {
    const path = join(folder, file);
    const handle = await open(path, 'r').catch(() => null);
    if (handle === null) continue;
    try {
      if (!(await lockIfNamed(handle, native))) continue;
      await rm(path, { force: true });
      removed.push(file);
    } finally {
      await handle.close();
    }
  }
  return removed;
}

/** Locks an open file; false when another holds it, or removed it before. */
async function lockIfNamed(handle: FileHandle, native: Native): Promise<boolean> {
  return native.flock(handle.fd, true) && (await handle.stat()).nlink > 0;
}

function partFiles(folder: string): string[] {
  try {
    return readdirSync(folder).filter((file) => file.endsWith(SUFFIX));
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
