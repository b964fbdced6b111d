/** Threads that hash beside the one that talks to the node: SHA3 takes two seconds a gigabyte, and five of silence end an activity. */
import { Worker } from 'node:worker_threads';
import { type Deferred, deferred } from '../lib/deferred.ts';
import type { HashAlgorithm } from './location.ts';

/** Names as node:crypto has them. */
export type StreamAlgorithm = HashAlgorithm | 'sha256';

/** A thread that answers requests, and tells the digest, in hex, when it was asked for with null. */
export class HashThread<Request, Answer> {
  readonly #worker: Worker;
  readonly #digest: Deferred<string> = deferred();

  /** @param loop What the thread runs: its text, so it refers to nothing outside itself. Its `workerData` is `data`. */
  constructor(loop: () => void, data: unknown, onAnswer: (answer: Answer) => void) {
    // A function instead of a file: it works alike from the sources, from a bundle and from a single executable.
    this.#worker = new Worker(`(${loop})()`, { eval: true, workerData: data, execArgv: [], name: 'hash' });
    this.#worker.on('message', (answer: Answer | string) => {
      if (typeof answer === 'string') this.#digest.resolve(answer);
      else onAnswer(answer);
    });
    this.#worker.on('error', (error) => this.#digest.reject(error));
    this.#worker.on('exit', () => this.#digest.reject(new Error('the hash was given up')));
    // Who never asks for the digest is not to be killed by its failure.
    this.#digest.promise.catch(() => {});
  }

  /** Rejects as soon as the thread fails or is ended. */
  get digest(): Promise<string> {
    return this.#digest.promise;
  }

  /** @param moved Buffers of the request that go over instead of being copied. */
  send(request: Request | null, moved: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(request, moved);
  }

  /** Resolves when it does not touch a descriptor any more. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
