/**
 * Files for a VM that has not started: they wait in the activity's folder and are delivered, in their order, when it is up.
 * Until then they can be read back under the path that they were written to.
 */
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import type { GuestFiles } from './container.ts';
import { storeFile } from './file.ts';
import type { Bytes } from './types.ts';

interface Waiting {
  /** In the VM. */
  path: string;
  format: 'file' | 'tar';
  /** Of this host. */
  file: string;
}

/** Transfers that wait; a script that sends more small files than this sends an archive. */
const MAX_WAITING = 10_000;
/** Bytes read at a time. */
const PIECE = 256 * 1024;

export class Staging implements GuestFiles {
  readonly #folder: string;
  #waiting: Waiting[] = [];
  #count = 0;

  /** `folder` is made when something comes, and must be of the activity alone. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** @throws {YavmError} YAVM_E_NOT_STARTED: nothing was put there */
  async readFiles(
    path: string,
    sink: (bytes: Uint8Array) => void | Promise<void>,
    { format, signal }: { format: 'file' | 'tar'; signal: AbortSignal },
  ): Promise<void> {
    const found = this.#waiting.findLast((each) => each.path === path && each.format === format);
    if (found === undefined) {
      throw new YavmError('YAVM_E_NOT_STARTED', `'${path}' cannot be read before the start of the activity`, {
        hint: 'Until then only files that were transferred there can be read.',
      });
    }
    for await (const piece of createReadStream(found.file, { highWaterMark: PIECE, signal }))
      await sink(piece);
  }

  /** @throws {YavmError} YAVM_E_DISK_FULL, YAVM_E_TRANSFER; what `source` throws. Nothing is left then. */
  async writeFiles(
    path: string,
    source: Bytes,
    { format, signal }: { format: 'file' | 'tar'; signal: AbortSignal },
  ): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING) {
      throw new YavmError('YAVM_E_TRANSFER', `${MAX_WAITING} transfers wait for the start already`, {
        hint: 'Send an archive.',
      });
    }
    const file = join(this.#folder, String(this.#count++));
    try {
      makeFolders(this.#folder, 0o700);
      await storeFile(file, source, signal);
    } catch (error) {
      await rm(file, { force: true });
      throw error;
    }
    if (format === 'file') await this.#forget(path);
    this.#waiting.push({ path, format, file });
  }

  /**
   * Brings everything to the VM; what was delivered is removed here.
   * @throws what the VM refuses; what was not delivered still waits then
   */
  async deliver(to: GuestFiles, signal: AbortSignal): Promise<void> {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const { path, format, file } = next;
      await to.writeFiles(path, createReadStream(file, { highWaterMark: PIECE }), { format, signal });
      this.#waiting.shift();
      await rm(file, { force: true });
    }
  }

  /** Removes everything that waits. Never rejects. */
  async clear(): Promise<void> {
    this.#waiting = [];
    await rm(this.#folder, { recursive: true, force: true }).catch(() => {});
  }

  /** A file that is replaced before it was delivered need not be. */
  async #forget(path: string): Promise<void> {
    const index = this.#waiting.findIndex((each) => each.path === path && each.format === 'file');
    if (index < 0 || this.#waiting.slice(index).some(({ format }) => format === 'tar')) return;
    const [old] = this.#waiting.splice(index, 1);
    if (old) await rm(old.file, { force: true });
  }
}
