/** What is known of an unfinished download: which file it is of, and how much of its beginning is there. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { Beginning, Identity } from './identity.ts';

/** Bytes; an ETag has 1024 at most. */
const MAX_RECORD = 8192;

interface RecordText {
  /** Its hash: a URL may hold secrets. */
  url: string;
  total: number;
  validator: string;
  /** Bytes from the beginning that are there. */
  size: number;
}

/**
 * The record of a part file, kept up to date while it grows. It is written in place, in one call and at one length: a
 * process that is killed leaves the one before or this one. After a power cut it may say more than is on the disk; the
 * final hash finds out.
 */
export class PartRecord {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #url: string;
  readonly #identity: Identity;
  #wanted = 0;
  #written = -1;
  #writing: Promise<void> | null = null;

  private constructor(path: string, handle: FileHandle, url: URL, identity: Identity) {
    this.#path = path;
    this.#handle = handle;
    this.#url = keyOf(url);
    this.#identity = identity;
  }

  /** One that is there must be of the same file. @throws the system's error */
  static async open(path: string, url: URL, identity: Identity): Promise<PartRecord> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
    return new PartRecord(path, handle, url, identity);
  }

  /** So many bytes are there. A disk that takes no record any more costs a later download its start, nothing else. */
  save(size: number): void {
    this.#wanted = size;
    this.#writing ??= this.#write()
      .catch(() => {})
      .finally(() => {
        this.#writing = null;
      });
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#handle.close();
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
    await this.close();
  }

  async #write(): Promise<void> {
    while (this.#written !== this.#wanted) {
      const size = this.#wanted;
      const { total, validator } = this.#identity;
      const text = (size: number) => JSON.stringify({ url: this.#url, total, validator, size });
      await this.#handle.write(Buffer.from(text(size).padEnd(text(total).length)), 0, null, 0);
      this.#written = size;
    }
  }
}

/** What a part file of `length` bytes holds of `url`; null when its record does not say, or is about another URL. */
export async function readPartRecord(path: string, url: URL, length: number): Promise<Beginning | null> {
  const record = await readRecord(path).catch(() => null);
  if (record === null || record.url !== keyOf(url)) return null;
  const { size, total, validator } = record;
  return size > 0 && size <= total && size <= length ? { size, identity: { total, validator } } : null;
}

async function readRecord(path: string): Promise<RecordText | null> {
  const handle = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_RECORD), 0, MAX_RECORD, 0);
    const record: unknown = JSON.parse(buffer.toString('utf8', 0, bytesRead));
    return isRecord(record) ? record : null;
  } finally {
    await handle.close();
  }
}

function isRecord(value: unknown): value is RecordText {
  if (typeof value !== 'object' || value === null) return false;
  const { url, total, validator, size } = value as Partial<Record<keyof RecordText, unknown>>;
  const counts = Number.isSafeInteger(total) && Number.isSafeInteger(size);
  return counts && typeof url === 'string' && typeof validator === 'string';
}

function keyOf(url: URL): string {
  return createHash('sha256').update(url.href).digest('hex');
}
