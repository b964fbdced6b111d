/**
 * Keeps the cache within its bound, and gives a download its room: images that were not used for the longest time go
 * first, as the bytes arrive and not before. Never one that somebody uses (lease.ts), or a part that is being written.
 */
import { lstatSync, type Stats } from 'node:fs';
import { open, rm, statfs } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Native } from '../../native/face.ts';
import type { Logger } from '../lib/logger.ts';
import { spaceError } from './image-errors.ts';
import { namesIn, removePart } from './left-parts.ts';
import { isImageName } from './location.ts';
import { lockIfNamed, PART_SUFFIX, RECORD_SUFFIX, type Room } from './part-file.ts';

export interface RoomOptions {
  /** The cache. */
  folder: string;
  /** Its own folder in it. */
  own: string;
  native: Native;
  /** Most bytes that the cache's files take; default by the disk. */
  limit?: number;
  logger: Logger;
}

/** A file that could go. */
interface Candidate {
  path: string;
  size: number;
  /** Milliseconds since the epoch. */
  usedAt: number;
  part: boolean;
}

/** Bytes for which room is made at a time: a server that only announces much does not empty the cache. */
const STEP = 256 * 1024 * 1024;
/** Without a limit: this part of the disk, but always so many bytes. */
const PART_OF_DISK = 1 / 4;
const LEAST_LIMIT = 16 * 1024 ** 3;

export class CacheRoom implements Room {
  readonly #options: RoomOptions;
  /** Bytes that may be written before it is looked again. */
  #allowance = 0;
  /** Bytes of the download that are still to come; null when not known. */
  #missing: number | null = null;
  #making: Promise<void> | null = null;
  #freeing: Promise<boolean> | null = null;

  constructor(options: RoomOptions) {
    this.#options = options;
  }

  /**
   * So many bytes will come, null: nobody knows. Whether they can be stored at all, when everything goes that may. Removes
   * nothing yet.
   * @throws {YavmError} YAVM_E_IMAGE_DOWNLOAD
   */
  async expect(missing: number | null): Promise<void> {
    this.#missing = missing;
    this.#allowance = 0;
    const bytes = missing ?? 0;
    const free = await this.#freeSpace();
    if (bytes <= free) return;
    let most = free;
    for (const candidate of this.#candidates()) {
      if (await this.#claim(candidate, async () => {})) most += candidate.size;
    }
    if (bytes > most) throw spaceError(this.#options.folder, bytes, most);
  }

  async use(bytes: number): Promise<void> {
    this.#allowance -= bytes;
    if (this.#missing !== null) this.#missing -= bytes;
    if (this.#allowance < 0) {
      this.#making ??= this.#make().finally(() => {
        this.#making = null;
      });
    }
    // Also who has an allowance: nobody overtakes, since what comes in its order is cheaper to hash.
    await this.#making;
  }

  /** Several writers that meet the full disk at once are helped once. */
  async free(): Promise<boolean> {
    this.#freeing ??= this.#evictOne().finally(() => {
      this.#freeing = null;
    });
    return await this.#freeing;
  }

  async #make(): Promise<void> {
    // What is asked for now is among it.
    const needed = Math.min(STEP, this.#missing === null ? STEP : this.#missing - this.#allowance);
    this.#allowance += needed;
    const limit = this.#options.limit ?? (await this.#defaultLimit());
    const candidates = this.#candidates();
    let used = this.#used();
    for (const candidate of candidates) {
      if (used + needed <= limit && needed <= (await this.#freeSpace())) return;
      if (await this.#evict(candidate)) used -= candidate.size;
    }
  }

  async #evictOne(): Promise<boolean> {
    for (const candidate of this.#candidates()) {
      if (await this.#evict(candidate)) return true;
    }
    return false;
  }

  /** Bytes that all files take, upstream's too. */
  #used(): number {
    const { folder, own } = this.#options;
    return [folder, own, join(folder, 'tmp')]
      .flatMap((each) => namesIn(each).map((name) => statOf(join(each, name))))
      .reduce((sum, stat) => sum + (stat?.isFile() ? sizeOf(stat) : 0), 0);
  }

  /** What may go, that first which goes first. */
  #candidates(): Candidate[] {
    const { folder, own } = this.#options;
    const images = namesIn(folder).filter(isImageName);
    const parts = namesIn(own).filter((name) => name.endsWith(PART_SUFFIX));
    const all = [
      ...parts.map((name) => this.#candidate(join(own, name), null)),
      ...images.map((name) => this.#candidate(join(folder, name), join(own, name + RECORD_SUFFIX))),
    ];
    return all
      .filter((candidate) => candidate !== null)
      .sort((one, other) => Number(other.part) - Number(one.part) || one.usedAt - other.usedAt);
  }

  /** An image was used when its record was touched; without one, when its file was, as far as that is known. */
  #candidate(path: string, record: string | null): Candidate | null {
    const stat = statOf(path);
    if (!stat?.isFile()) return null;
    const recorded = record === null ? null : statOf(record);
    const times = recorded ? [recorded.mtimeMs] : [stat.mtimeMs, stat.atimeMs];
    return { path, size: sizeOf(stat), usedAt: Math.max(...times), part: record === null };
  }

  async #evict({ path, size, part, usedAt }: Candidate): Promise<boolean> {
    const { native, own, logger } = this.#options;
    if (part) return await removePart(path, native);
    const remove = () => rm(path);
    if (!(await this.#claim({ path }, remove).catch(() => false))) return false;
    await rm(join(own, basename(path) + RECORD_SUFFIX), { force: true }).catch(() => {});
    logger.info({ image: path, size, used: new Date(usedAt).toISOString() }, 'image evicted from the cache');
    return true;
  }

  /** Calls `use` with the file locked; false when somebody else has it, or it is gone. */
  async #claim({ path }: Pick<Candidate, 'path'>, use: () => Promise<void>): Promise<boolean> {
    const handle = await open(path, 'r').catch(() => null);
    if (handle === null) return false;
    try {
      if (!(await lockIfNamed(handle, this.#options.native))) return false;
      await use();
      return true;
    } finally {
      await handle.close();
    }
  }

  /** Bytes that can be written; infinite when the file system does not say. */
  async #freeSpace(): Promise<number> {
    const { blocks, bavail, bsize } = await statfs(this.#options.folder);
    return blocks > 0 ? bavail * bsize : Number.POSITIVE_INFINITY;
  }

  async #defaultLimit(): Promise<number> {
    const { blocks, bsize } = await statfs(this.#options.folder);
    return blocks > 0 ? Math.max(blocks * bsize * PART_OF_DISK, LEAST_LIMIT) : Number.POSITIVE_INFINITY;
  }
}

function statOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** What it takes on the disk, not what it seems to hold. */
function sizeOf({ blocks }: Stats): number {
  return blocks * 512;
}
