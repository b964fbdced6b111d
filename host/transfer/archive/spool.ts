/** A file without a name for what is needed twice, or not in order: nothing of it is left, whatever happens. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, YavmError } from '../../lib/errors.ts';
import type { Bytes } from '../types.ts';

/** open(2)'s O_TMPFILE of Linux on x86-64 (it includes O_DIRECTORY), which Node does not name. */
const O_TMPFILE = 0o20200000;
/** Bytes read at a time. */
const PIECE = 128 * 1024;

export class Spool {
  readonly #folder: string;
  readonly #handle: FileHandle;
  #size = 0;
  #closed: Promise<void> | null = null;

  private constructor(folder: string, handle: FileHandle) {
    this.#folder = folder;
    this.#handle = handle;
  }

  /** @throws {YavmError} YAVM_E_ARCHIVE_SPOOL */
  static async create(folder: string): Promise<Spool> {
    try {
      return new Spool(folder, await openUnnamed(folder));
    } catch (cause) {
      throw spoolError(folder, cause);
    }
  }

  get fd(): number {
    return this.#handle.fd;
  }

  get size(): number {
    return this.#size;
  }

  /** Writes at the end. @throws {YavmError} YAVM_E_ARCHIVE_SPOOL */
  async append(bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.byteLength; ) {
        const { bytesWritten } = await this.#handle.write(bytes, done, bytes.byteLength - done, this.#size);
        done += bytesWritten;
        this.#size += bytesWritten;
      }
    } catch (cause) {
      throw spoolError(this.#folder, cause);
    }
  }

  /** What was written from `from` to `to`. @throws {YavmError} YAVM_E_ARCHIVE_SPOOL */
  async *read(from: number, to: number): Bytes {
    const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE, Math.max(0, to - from)));
    for (let at = from; at < to; ) {
      const { bytesRead } = await this.#handle.read(buffer, 0, Math.min(buffer.byteLength, to - at), at);
      if (bytesRead === 0) throw spoolError(this.#folder, new Error('it is shorter than what was written'));
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#handle.close();
    return this.#closed;
  }
}

async function openUnnamed(folder: string): Promise<FileHandle> {
  try {
    return await open(folder, O_TMPFILE | constants.O_RDWR, 0o600);
  } catch (error) {
    if (!hasErrno(error, 'EOPNOTSUPP') && !hasErrno(error, 'EISDIR')) throw error;
  }
  // A file system without O_TMPFILE: a name for the moment that it takes to remove it.
  const path = join(folder, `ya-vm-${randomBytes(8).toString('hex')}.spool`);
  const handle = await open(path, 'wx+', 0o600);
  await unlink(path);
  return handle;
}

function spoolError(folder: string, cause: unknown): YavmError {
  return new YavmError('YAVM_E_ARCHIVE_SPOOL', `${folder}: an archive cannot be kept there for a moment`, {
    cause,
    hint: 'Is there room on its disk?',
  });
}
