/**
 * A file that is being downloaded: under a name of its own until it is whole, hashed as it grows. Its writer holds a
 * lock on it, so that what a killed one left can be told from what is in use.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { isDiskFull } from '../lib/errors.ts';
import { sizeOf } from './gather.ts';
import { HashedFile } from './hashed-file.ts';
import type { Sink } from './http.ts';
import type { Beginning, Identity } from './identity.ts';
import type { Digest } from './location.ts';
import { PartRecord, readPartRecord } from './part-record.ts';

export const PART_SUFFIX = '.part';
/** Of the record beside a part file. */
export const RECORD_SUFFIX = '.json';
/** A cleaner comes between creation and lock: rare. */
const MAX_ATTEMPTS = 100;
/** After a kill such a part of the beginning has to be fetched again, but not less and not more than so many bytes. */
const RECORD_STEP = { part: 1 / 32, least: 1024 * 1024, most: 16 * 1024 * 1024 };
/** Bytes after which the disk is given something to do, so that little is left for it at the end. */
const FLUSH_STEP = 64 * 1024 * 1024;
/** Bytes; less is not worth being kept for the next attempt to fetch the image. */
const MIN_KEPT = 1024 * 1024;

/** Where the bytes' room comes from (cache-room.ts). */
export interface Room {
  /** Called before each write. */
  use(bytes: number): Promise<void>;
  /** The disk is full: whether that could be changed. */
  free(): Promise<boolean>;
}

export interface PartOptions {
  /** The cache's own. */
  folder: string;
  /** The image's. */
  name: string;
  url: URL;
  digest: Digest;
  native: Native;
  room: Room;
}

export class PartFile implements Sink {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #options: PartOptions;
  /** Made with the first byte: most failures come before. */
  #content: HashedFile | null = null;
  /** Bytes from the beginning that are there. */
  #size: number;
  #record: PartRecord | null = null;
  #recorded = 0;
  #flushed = 0;
  #flushing: Promise<void> | null = null;
  /** The system tells it once. */
  #flushFailure: { error: unknown } | null = null;
  #open = true;

  private constructor(path: string, handle: FileHandle, options: PartOptions, size: number) {
    this.#path = path;
    this.#handle = handle;
    this.#options = options;
    this.#size = size;
  }

  /** Makes an empty one. @throws the system's error. */
  static async create(options: PartOptions): Promise<PartFile> {
    const { folder, name, native } = options;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const path = join(folder, `${name}.${process.pid}-${randomBytes(4).toString('hex')}${PART_SUFFIX}`);
      const handle = await open(path, 'wx+', 0o644);
      const locked = await lockIfNamed(handle, native).catch(() => false);
      if (locked) return new PartFile(path, handle, options, 0);
      await handle.close();
    }
    throw new Error(`${folder}: no file could be made and locked in ${MAX_ATTEMPTS} attempts`);
  }

  /**
   * Takes over what another process has left in the part file `path`, when that is a beginning of the same URL's file.
   * It is hashed from its first byte: what is on the disk counts, not what was.
   */
  static async adopt(
    path: string,
    options: PartOptions,
  ): Promise<{ part: PartFile; beginning: Beginning } | null> {
    const handle = await open(path, 'r+').catch(() => null);
    if (handle === null) return null;
    let part: PartFile | null = null;
    try {
      const locked = await lockIfNamed(handle, options.native);
      const at = await handle.stat();
      const beginning = await readPartRecord(path + RECORD_SUFFIX, options.url, at.size);
      if (!locked || !at.isFile() || beginning === null) return null;
      // What several connections have left behind the beginning has gaps.
      await handle.truncate(beginning.size);
      part = new PartFile(path, handle, options, beginning.size);
      await part.#keepRecord(beginning.identity);
      part.advance(beginning.size);
      return { part, beginning };
    } finally {
      if (part === null) await handle.close();
    }
  }

  async begin(identity: Identity | null): Promise<void> {
    await this.#closeContent();
    [this.#size, this.#flushed] = [0, 0];
    await this.#dropRecord();
    await this.#handle.truncate(0);
    if (identity) await this.#keepRecord(identity);
  }

  async write(pieces: Uint8Array[], at: number): Promise<void> {
    await this.#options.room.use(sizeOf(pieces));
    await this.#hashed().write(pieces, at);
  }

  advance(end: number): void {
    this.#size = end;
    this.#hashed().advance(end);
    if (end - this.#flushed >= FLUSH_STEP) this.#flush(end);
    const step = Math.max(RECORD_STEP.least, Math.min(RECORD_STEP.part * end, RECORD_STEP.most));
    if (end - this.#recorded < step) return;
    this.#recorded = end;
    this.#record?.save(end);
  }

  /** The digest of everything written, in hex. */
  digest(): Promise<string> {
    this.#flush(this.#size);
    return this.#hashed().digest();
  }

  /**
   * Gives the whole file its name, on the disk before it is seen: a power cut leaves all of it, or nothing. It is locked
   * as one that is used; `close` ends that.
   */
  async publish(path: string): Promise<void> {
    await this.#flushing;
    if (this.#flushFailure) throw this.#flushFailure.error;
    await this.#handle.datasync();
    await rename(this.#path, path);
    this.#options.native.flock(this.#handle.fd, false);
    await this.#dropRecord();
  }

  /** Ends everything; the file stays under the name that it has. */
  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#closeContent();
    await this.#record?.close();
    await this.#handle.close();
  }

  /** Removes it, unless it was closed. Never fails. */
  async discard(): Promise<void> {
    if (!this.#open) return;
    await this.#dropRecord().catch(() => {});
    await rm(this.#path, { force: true }).catch(() => {});
    await this.close().catch(() => {});
  }

  /** Leaves it to the next process that fetches the image, when that is worth it. Never fails. */
  async leave(): Promise<void> {
    if (this.#record === null || this.#size < MIN_KEPT) return await this.discard();
    this.#record.save(this.#size);
    await this.close().catch(() => {});
  }

  #hashed(): HashedFile {
    const { digest, room } = this.#options;
    const mayRetry = async (error: Error) => isDiskFull(error) && (await room.free());
    this.#content ??= new HashedFile(this.#handle.fd, digest.algorithm, mayRetry);
    return this.#content;
  }

  #flush(end: number): void {
    this.#flushing ??= this.#handle
      .datasync()
      .catch((error: unknown) => {
        this.#flushFailure ??= { error };
      })
      .finally(() => {
        this.#flushing = null;
      });
    this.#flushed = end;
  }

  async #keepRecord(identity: Identity): Promise<void> {
    // A disk without room for it is found out by the first write.
    const { url } = this.#options;
    this.#record = await PartRecord.open(this.#path + RECORD_SUFFIX, url, identity).catch(() => null);
    this.#record?.save(this.#size);
    this.#recorded = this.#size;
  }

  async #dropRecord(): Promise<void> {
    const record = this.#record;
    this.#record = null;
    await record?.remove();
  }

  async #closeContent(): Promise<void> {
    await this.#content?.close();
    this.#content = null;
  }
}

/** Locks an open file; false when another holds it, or removed it before. */
export async function lockIfNamed(handle: FileHandle, native: Native): Promise<boolean> {
  return native.flock(handle.fd, true) && (await handle.stat()).nlink > 0;
}
