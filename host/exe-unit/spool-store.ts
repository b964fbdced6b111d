/**
 * All output of an activity's commands that lies on disk, and the rule who makes room when it is full. In this order:
 *
 * 1. what nobody needs any more;
 * 2. of commands that are over, oldest first, what only a first subscriber that never came would read;
 * 3. a command waits while a subscriber has still to read what fills the disk (it is given up when it stands still);
 * 4. what only a first subscriber would read, of the command that needs the room: oldest first;
 * 5. of commands that are over, oldest first, what their results would show.
 *
 * What goes in 2, 4 and 5 is missed by its reader, who says so. Nothing of this is on disk while commands print little:
 * a spool keeps its newest bytes in memory.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../lib/logger.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { type Keep, Spool, type SpoolSizes } from './spool.ts';

export interface SpoolStoreOptions {
  /** Made, 0700, with the first file; removed with all that is in it. */
  folder: string;
  /** Bytes on disk at most. */
  limit: number;
  logger: Logger;
  sizes?: Partial<SpoolSizes>;
}

/** Bytes in memory that finished commands' short outputs take together; more goes to disk. */
const MAX_RESTING = 16 * 1024 * 1024;

export class SpoolStore {
  readonly logger: Logger;
  readonly sizes: Partial<SpoolSizes>;
  readonly #folder: string;
  readonly #limit: number;
  /** In the order of creation: oldest first. */
  readonly #spools = new Set<Spool>();
  #files = 0;
  #used = 0;
  #resting = 0;
  #closed = false;
  #movements: (() => void)[] = [];

  constructor(options: SpoolStoreOptions) {
    this.#folder = options.folder;
    this.#limit = options.limit;
    this.logger = options.logger;
    this.sizes = options.sizes ?? {};
  }

  create(keep: Keep): Spool {
    const spool = new Spool(this, keep);
    this.#spools.add(spool);
    return spool;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes on disk. */
  get used(): number {
    return this.#used;
  }

  /** Forgets a spool and what it holds. */
  remove(spool: Spool): void {
    if (this.#spools.delete(spool)) spool.clear();
  }

  /** Removes everything; spools cannot be read any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.moved();
    await Promise.all([...this.#spools].map((spool) => spool.close()));
    this.#spools.clear();
    await rm(this.#folder, { recursive: true, force: true });
  }

  // ---------------------------------------------------------------- for spools

  /** A path that no file has yet. */
  newPath(): string {
    if (this.#files === 0) makeFolders(this.#folder, 0o700);
    return join(this.#folder, `${String(this.#files++).padStart(6, '0')}.spool`);
  }

  /** Takes `bytes` of the disk; false when there is no room and none can be made. */
  async room(bytes: number, spool: Spool): Promise<boolean> {
    while (!this.#closed && this.#used + bytes > this.#limit) {
      for (const each of this.#spools) each.trim();
      if (this.#used + bytes <= this.#limit) break;
      if (this.#dropOldest((each) => each.dropBacklog())) continue;
      if (this.#held()) {
        await new Promise<void>((resolve) => this.#movements.push(resolve));
      } else if (!spool.dropBacklog() && !this.#dropOldest((each) => each.dropAny())) {
        return false;
      }
    }
    if (this.#closed) return false;
    this.#used += bytes;
    return true;
  }

  /** Gives back what {@link room} took. */
  freed(bytes: number): void {
    this.#used -= bytes;
  }

  /** A reader went on, or left. */
  moved(): void {
    const movements = this.#movements;
    this.#movements = [];
    for (const resolve of movements) resolve();
  }

  /** Whether a finished output of this size can stay in memory; counted until {@link woke}. */
  rest(bytes: number): boolean {
    if (this.#resting + bytes > MAX_RESTING) return false;
    this.#resting += bytes;
    return true;
  }

  woke(bytes: number): void {
    this.#resting -= bytes;
  }

  /** Whether somebody is still to read what is on disk. */
  #held(): boolean {
    for (const spool of this.#spools) if (spool.held) return true;
    return false;
  }

  #dropOldest(drop: (spool: Spool) => boolean): boolean {
    for (const spool of this.#spools) if (spool.sealed && drop(spool)) return true;
    return false;
  }
}
