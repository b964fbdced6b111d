/**
 * Hashes files beside the thread that talks to the node: SHA3 takes three seconds a gigabyte, and five seconds of
 * silence end an activity.
 */
import { Worker } from 'node:worker_threads';
import { type Deferred, deferred } from '../lib/deferred.ts';
import type { HashAlgorithm } from './location.ts';

interface WorkerSetup {
  fd: number;
  algorithm: HashAlgorithm;
  slice: number;
}

/** Bytes read at a time: small enough that `terminate` is quick. */
const SLICE = 1024 * 1024;

/**
 * Hashes a file while it is written: the worker reads what is on the disk, so what was hashed is what is there.
 * The descriptor is shared by the process's threads; it must stay open until `close` has resolved.
 */
export class FileHasher {
  readonly #worker: Worker;
  readonly #digest: Deferred<string> = deferred();
  /** Bytes that may be read. */
  #end = 0;
  #hashed = 0;
  #busy = false;
  #finishing = false;

  constructor(fd: number, algorithm: HashAlgorithm) {
    const workerData: WorkerSetup = { fd, algorithm, slice: SLICE };
    // A function instead of a file: it works alike from the sources, from a bundle and from a single executable.
    this.#worker = new Worker(`(${hashLoop})()`, { eval: true, workerData, execArgv: [], name: 'hash' });
    this.#worker.on('message', (answer: number | string) => this.#onAnswer(answer));
    this.#worker.on('error', (error) => this.#digest.reject(error));
    this.#worker.on('exit', () => this.#digest.reject(new Error('the hash was given up')));
    // Who never asks for the digest is not to be killed by its failure.
    this.#digest.promise.catch(() => {});
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
    return this.#digest.promise;
  }

  /** Ends the worker; resolves when it does not touch the descriptor any more. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  /** One message at a time, so that a fast writer makes no queue. */
  #feed(): void {
    if (this.#busy) return;
    if (this.#hashed < this.#end) this.#worker.postMessage(this.#end);
    else if (this.#finishing) this.#worker.postMessage(null);
    else return;
    this.#busy = true;
  }

  #onAnswer(answer: number | string): void {
    if (typeof answer === 'string') {
      this.#digest.resolve(answer);
      return;
    }
    this.#hashed = answer;
    this.#busy = false;
    this.#feed();
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

/**
 * The worker: gets how far it may read, answers when it has; null asks for the digest. Its text is what the worker
 * runs, so it refers to nothing outside itself.
 */
function hashLoop(): void {
  const { parentPort: port, workerData } = process.getBuiltinModule('node:worker_threads');
  const { createHash } = process.getBuiltinModule('node:crypto');
  const { readSync } = process.getBuiltinModule('node:fs');
  const { fd, algorithm, slice } = workerData as WorkerSetup;
  const hash = createHash(algorithm);
  const bytes = new Uint8Array(slice);
  let at = 0;
  port?.on('message', (end: number | null) => {
    if (end === null) return port.postMessage(hash.digest('hex'));
    while (at < end) {
      const count = readSync(fd, bytes, 0, Math.min(bytes.length, end - at), at);
      if (count === 0) throw new Error('the file became shorter while it was hashed');
      hash.update(bytes.subarray(0, count));
      at += count;
    }
    port.postMessage(at);
  });
}
