/** Hashes of files and streams, each made by a thread of its own. */
import { type Deferred, deferred } from '../lib/deferred.ts';
import { HashThread, type StreamAlgorithm } from './hash-thread.ts';
import { HashedFile } from './hashed-file.ts';
import type { HashAlgorithm } from './location.ts';

/** Bytes of a stream that wait for the thread. */
const MAX_BACKLOG = 4 * 1024 * 1024;

/** Hashes bytes on their way from one end to another. */
export class StreamHasher {
  readonly #thread: HashThread<Uint8Array, number>;
  #sent = 0;
  #hashed = 0;
  /** Resolved when the thread has caught up. */
  #room: Deferred<void> | null = null;
  #finishing = false;
  #failure: Error | null = null;

  constructor(algorithm: StreamAlgorithm) {
    this.#thread = new HashThread(streamLoop, { algorithm }, (hashed) => {
      this.#hashed = hashed;
      if (this.#backlog > MAX_BACKLOG) return;
      this.#room?.resolve();
      this.#room = null;
    });
    this.#thread.digest.catch((error: Error) => {
      this.#failure = error;
      this.#room?.reject(error);
    });
  }

  /**
   * Copies `bytes`, which are the caller's again at once; resolves when at most 4 MiB wait to be hashed. Calls that
   * do not wait for each other keep their order.
   * @throws {Error} after `digest` or `close`; what made the thread fail.
   */
  async update(bytes: Uint8Array): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#finishing) throw new Error('more bytes after the digest was asked for');
    const copy = new Uint8Array(bytes);
    if (bytes.byteLength > 0) this.#thread.send(copy, [copy.buffer]);
    this.#sent += bytes.byteLength;
    if (this.#backlog <= MAX_BACKLOG) return;
    this.#room ??= deferred();
    await this.#room.promise;
  }

  /** The digest of everything, in hex. @throws {Error} after `close`; what made the thread fail. */
  digest(): Promise<string> {
    if (!this.#finishing) this.#thread.send(null);
    this.#finishing = true;
    return this.#thread.digest;
  }

  /** Ends the thread. To be called in any case. */
  async close(): Promise<void> {
    this.#finishing = true;
    await this.#thread.close();
  }

  get #backlog(): number {
    return this.#sent - this.#hashed;
  }
}

/** The digest of an open file's first `size` bytes. @throws the signal's reason; what reading the file threw. */
export async function hashFile(
  fd: number,
  size: number,
  algorithm: HashAlgorithm,
  signal?: AbortSignal,
): Promise<string> {
  signal?.throwIfAborted();
  const file = new HashedFile(fd, algorithm);
  const aborted = deferred<never>();
  const onAbort = () => aborted.reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    file.advance(size);
    return await Promise.race([file.digest(), aborted.promise]);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await file.close();
  }
}

/** What the thread runs: answers each request with the bytes hashed so far. */
function streamLoop(): void {
  const { parentPort: port, workerData } = process.getBuiltinModule('node:worker_threads');
  const { createHash } = process.getBuiltinModule('node:crypto');
  const hash = createHash((workerData as { algorithm: StreamAlgorithm }).algorithm);
  let hashed = 0;
  port?.on('message', (bytes: Uint8Array | null) => {
    if (bytes === null) return port.postMessage(hash.digest('hex'));
    hash.update(bytes);
    hashed += bytes.byteLength;
    port.postMessage(hashed);
  });
}
