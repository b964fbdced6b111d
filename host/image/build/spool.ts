/** A file without a name: what was decompressed, so that it can be read at any place. It goes with the process, however that ends. */
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from '../../lib/errors.ts';
import { writeError } from './disk-error.ts';
import { fileSection, type Section } from './section.ts';

export class Spool {
  readonly #folder: string;
  readonly #fd: number;
  #size = 0;

  /** @throws {YavmError} YAVM_E_DISK_FULL, YAVM_E_IMAGE_BUILD: no file can be made in `folder` */
  constructor(folder: string) {
    this.#folder = folder;
    try {
      this.#fd = openUnnamed(folder);
    } catch (cause) {
      throw writeError(folder, cause);
    }
  }

  get size(): number {
    return this.#size;
  }

  /** Appends. @throws {YavmError} YAVM_E_DISK_FULL, YAVM_E_IMAGE_BUILD */
  write(bytes: Uint8Array): void {
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (cause) {
      throw writeError(this.#folder, cause);
    }
    this.#size += bytes.length;
  }

  /** What was written, to be read; valid until `close`. */
  section(name: string): Section {
    return fileSection(this.#fd, name, 0, this.#size);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** open(2)'s O_TMPFILE of Linux on x86-64 (it includes O_DIRECTORY), which Node does not name. */
const O_TMPFILE = 0o20200000;

function openUnnamed(folder: string): number {
  try {
    return openSync(folder, O_TMPFILE | constants.O_RDWR, 0o600);
  } catch (error) {
    if (!hasErrno(error, 'EOPNOTSUPP') && !hasErrno(error, 'EISDIR')) throw error;
  }
  // A file system without O_TMPFILE: a name for the moment that it takes to remove it.
  const path = join(folder, `.ya-vm-${randomBytes(8).toString('hex')}.tmp`);
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  unlinkSync(path);
  return fd;
}
