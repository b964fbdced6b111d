/**
 * Hashes files and streams beside the thread that talks to the node: SHA3 takes three seconds a gigabyte, and five
 * seconds of silence end an activity.
 */
import { Worker } from 'node:worker_threads';
import { type Deferred, deferred } from '../lib/deferred.ts';
import type { HashAlgorithm } from './location.ts';

/** Names as node:crypto has them. */
export type StreamAlgorithm = HashAlgorithm | 'sha256';

interface WorkerSetup {
  /** What to read; null when the bytes come in messages. */
  fd: number | null;
  algorithm: StreamAlgorithm;
  slice: number;
}

/** To the worker: bytes to hash; how far the file may be read; null asks for the digest. */
type Request = Uint8Array | number | null;
/** From the worker: bytes hashed in all; the digest in hex. */
type Answer = number | string;

/** Bytes read at a time: small enough that `terminate` is quick. */
const SLICE = 1024 * 1024;
/** Bytes of a stream that wait for the worker. */
const MAX_BACKLOG = 4 * 1024 * 1024;

/** A thread that hashes, and what it has told so far. */
class HashThread {
  readonly #worker: Worker;
  readonly #digest: Deferred<string> = deferred();
  #hashed = 0;

  /** @param onHashed Called after each request that was done. */
  constructor(fd: number | null, algorithm: StreamAlgorithm, onHashed: () => void) {
    const workerData: WorkerSetup = { fd, algorithm, slice: SLICE };
    // A function instead of a file: it works alike from the sources, from a bundle and from a single executable.
    this.#worker = new Worker(`(${hashLoop})()`, { eval: true, workerData, execArgv: [], name: 'hash' });
    this.#worker.on('message', (answer: Answer) => {
      if (typeof answer === 'string') return this.#digest.resolve(answer);
      this.#hashed = answer;
      onHashed();
    });
    this.#worker.on('error', (error) => this.#digest.reject(error));
    this.#worker.on('exit', () => this.#digest.reject(new Error('the hash was given up')));
    // Who never asks for the digest is not to be killed by its failure.
    this.#digest.promise.catch(() => {});
  }

  /** Bytes. */
  get hashed(): number {
    return this.#hashed;
  }

  /** In hex, once it was asked for with null. Rejects as soon as the thread fails or is ended. */
  get digest(): Promise<string> {
    return this.#digest.promise;
  }

  send(request: Request): void {
    // Bytes go over instead of being copied once more.
    const moved = request instanceof Uint8Array ? [request.buffer as ArrayBuffer] : [];
    this.#worker.postMessage(request, moved);
  }

  /** Resolves when it does not touch a descriptor any more. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

/**
 * Hashes a file while it is written: the worker reads what is on the disk, so what was hashed is what is there.
 * The descriptor is shared by the process's threads; it must stay open until `close` has resolved.
 */
export class FileHasher {
  readonly #thread: HashThread;
  /** Bytes that may be read. */
  #end = 0;
  #busy = false;
  #finishing = false;

  constructor(fd: number, algorithm: HashAlgorithm) {
    this.#thread = new HashThread(fd, algorithm, () => {
      this.#busy = false;
      this.#feed();
    });
  }

  /** The file's first `end` bytes are written, and stay as they are. */
  advance(end: number): void {
    this.#end = end;
    this.#feed();
  }

  /** The digest of all that `advance` allowed, in hex. @throws what reading the file threw. */
  digest(): Promise<string> {
    this.#finishing = true;
    this.#feed();
    return this.#thread.digest;
  }

  /** Ends the worker; resolves when it does not touch the descriptor any more. */
  close(): Promise<void> {
    return this.#thread.close();
  }

  /** One message at a time, so that a fast writer makes no queue. */
  #feed(): void {
    if (this.#busy) return;
    if (this.#thread.hashed < this.#end) this.#thread.send(this.#end);
    else if (this.#finishing) this.#thread.send(null);
    else return;
    this.#busy = true;
  }
}

/** Hashes bytes on their way from one end to another. */
export class StreamHasher {
  readonly #thread: HashThread;
  #sent = 0;
  /** Resolved when the worker has caught up. */
  #room: Deferred<void> | null = null;
  #finishing = false;
  #failure: Error | null = null;

  constructor(algorithm: StreamAlgorithm) {
    this.#thread = new HashThread(null, algorithm, () => {
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
   * @throws {Error} after `digest` or `close`; what made the worker fail.
   */
  async update(bytes: Uint8Array): Promise<void> {
    if (this.#failure) throw this.#failure;
    if (this.#finishing) throw new Error('more bytes after the digest was asked for');
    if (bytes.byteLength > 0) this.#thread.send(new Uint8Array(bytes));
    this.#sent += bytes.byteLength;
    if (this.#backlog <= MAX_BACKLOG) return;
    this.#room ??= deferred();
    await this.#room.promise;
  }

  /** The digest of everything, in hex. @throws {Error} after `close`; what made the worker fail. */
  digest(): Promise<string> {
    if (!this.#finishing) this.#thread.send(null);
    this.#finishing = true;
    return this.#thread.digest;
  }

  /** Ends the worker. To be called in any case. */
  async close(): Promise<void> {
    this.#finishing = true;
    await this.#thread.close();
  }

  get #backlog(): number {
    return this.#sent - this.#thread.hashed;
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
  const hasher = new FileHasher(fd, algorithm);
  const aborted = deferred<never>();
  const onAbort = () => aborted.reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    hasher.advance(size);
    return await Promise.race([hasher.digest(), aborted.promise]);
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await hasher.close();
  }
}

/** The worker: answers each request. Its text is what the worker runs, so it refers to nothing outside itself. */
function hashLoop(): void {
  const { parentPort: port, workerData } = process.getBuiltinModule('node:worker_threads');
  const { createHash } = process.getBuiltinModule('node:crypto');
  const { readSync } = process.getBuiltinModule('node:fs');
  const { fd, algorithm, slice } = workerData as WorkerSetup;
  const hash = createHash(algorithm);
  const bytes = new Uint8Array(fd === null ? 0 : slice);
  let at = 0;
  port?.on('message', (request: Request) => {
    if (request === null) return port.postMessage(hash.digest('hex'));
    if (typeof request !== 'number') {
      hash.update(request);
      at += request.byteLength;
    } else {
      while (fd !== null && at < request) {
        const count = readSync(fd, bytes, 0, Math.min(bytes.length, request - at), at);
        if (count === 0) throw new Error('the file became shorter while it was hashed');
        hash.update(bytes.subarray(0, count));
        at += count;
      }
    }
    port.postMessage(at);
  });
}
