/** Bytes of an upload on their way to a file: in their order, hashed, under their final name only when they are all there. */
import { createHash, type Hash, randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { type Deferred, deferred } from '../lib/deferred.ts';
import { toError } from '../lib/errors.ts';
import { gftpAnswer, localFileError } from './gftp-place.ts';

/** Chunks that wait for one before them: upstream sends eight at a time, in any order. */
const MAX_EARLY = 64;

export interface Received {
  /** Bytes. */
  size: number;
  /** SHA3-256, lower-case hex. */
  hash: string;
}

export class Upload {
  readonly #path: string;
  readonly #part: string;
  readonly #handle: FileHandle;
  readonly #maxSize: number;
  #hash: Hash = createHash('sha3-256');
  /** Where the next chunk belongs. */
  #next = 0;
  readonly #early = new Map<number, { content: Uint8Array; written: Deferred<void> }>();
  /** Everything up to the last chunk was written. */
  #written: Promise<void> = Promise.resolve();
  #over = false;

  private constructor(path: string, part: string, handle: FileHandle, maxSize: number) {
    this.#path = path;
    this.#part = part;
    this.#handle = handle;
    this.#maxSize = maxSize;
  }

  /** Makes a file beside `path`. @throws {YavmError} YAVM_E_LOCAL_FILE */
  static async create(path: string, maxSize: number): Promise<Upload> {
    const isFolder = await stat(path).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (isFolder) throw localFileError(path, 'is a directory');
    const part = `${path}.${randomBytes(6).toString('hex')}.part`;
    try {
      return new Upload(path, part, await open(part, 'wx'), maxSize);
    } catch (cause) {
      throw localFileError(path, 'cannot be written', cause);
    }
  }

  /**
   * Resolves when it was written: a chunk that came early waits for those before it. One at 0 begins anew.
   * @throws {AnswerError} WriteError
   */
  async take(offset: number, content: Uint8Array): Promise<void> {
    if (this.#over) throw gftpAnswer('WriteError', 'the upload is over');
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + content.length > this.#maxSize) {
      throw gftpAnswer('WriteError', `more than ${this.#maxSize} bytes are not taken`);
    }
    if (offset === 0 && this.#next > 0) this.#restart();
    if (offset > this.#next) return await this.#keep(offset, content);
    if (offset < this.#next) throw gftpAnswer('WriteError', `the bytes at ${offset} came twice`);
    const written = this.#append(content);
    for (let early = this.#early.get(this.#next); early; early = this.#early.get(this.#next)) {
      this.#early.delete(this.#next);
      early.written.resolve(this.#append(early.content));
    }
    await written;
  }

  /**
   * Gives the file its name when its hash is `hash` (null: whatever it is).
   * @throws {AnswerError} IntegrityError, after which it may begin anew; WriteError
   */
  async finish(hash: string | null): Promise<Received> {
    if (this.#over) throw gftpAnswer('WriteError', 'the upload is over');
    await this.#written;
    const received = { size: this.#next, hash: this.#hash.copy().digest('hex') };
    const isWhole = this.#early.size === 0 && (hash === null || hash.toLowerCase() === received.hash);
    if (!isWhole) throw gftpAnswer('IntegrityError', '');
    this.#over = true;
    try {
      await this.#handle.sync().finally(() => this.#handle.close());
      await rename(this.#part, this.#path);
    } catch (error) {
      await rm(this.#part, { force: true });
      throw gftpAnswer('WriteError', toError(error).message);
    }
    return received;
  }

  /** Forgets what came of a file that is not finished. */
  async drop(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#forgetEarly('the upload is over');
    await this.#written.catch(() => {});
    await this.#handle.close();
    await rm(this.#part, { force: true });
  }

  #restart(): void {
    this.#forgetEarly('the upload began anew');
    this.#next = 0;
    this.#hash = createHash('sha3-256');
    this.#written = this.#written.catch(() => {}).then(() => this.#handle.truncate(0));
    this.#written.catch(() => {});
  }

  #keep(offset: number, content: Uint8Array): Promise<void> {
    if (this.#early.has(offset) || this.#early.size >= MAX_EARLY) {
      throw gftpAnswer('WriteError', `the bytes at ${offset} came twice, or too early`);
    }
    const written = deferred<void>();
    this.#early.set(offset, { content, written });
    return written.promise;
  }

  #forgetEarly(why: string): void {
    for (const { written } of this.#early.values()) written.reject(gftpAnswer('WriteError', why));
    this.#early.clear();
  }

  /** One after the other, each at its place; after one that failed none is written. */
  #append(content: Uint8Array): Promise<void> {
    const position = this.#next;
    this.#next += content.length;
    this.#hash.update(content);
    this.#written = this.#written.then(() => this.#write(content, position));
    this.#written.catch(() => {});
    return this.#written;
  }

  async #write(content: Uint8Array, position: number): Promise<void> {
    try {
      for (let at = 0; at < content.length; ) {
        at += (await this.#handle.write(content, at, content.length - at, position + at)).bytesWritten;
      }
    } catch (error) {
      throw gftpAnswer('WriteError', toError(error).message);
    }
  }
}
