/**
 * A file that a thread of its own writes and hashes: nobody else waits for the disk, and what comes in its order is hashed
 * in memory as it is written. The rest is read again.
 */
import { type Deferred, deferred } from '../lib/deferred.ts';
import { HashThread } from './hash-thread.ts';
import type { HashAlgorithm } from './location.ts';

interface Setup {
  fd: number;
  algorithm: HashAlgorithm;
  slice: number;
}

interface Write {
  pieces: Uint8Array[];
  at: number;
}

/** To the thread: bytes for the disk; how many there are from the beginning. */
type Request = Write | number;

/** From the thread, for each write in their order: what went wrong, with the bytes; null: nothing. */
type Answer = { failure: (SystemError & { pieces: Uint8Array[] }) | null };

/** What is left of a system's error on its way between threads. */
type SystemError = Pick<NodeJS.ErrnoException, 'message' | 'code' | 'errno' | 'syscall'>;

/** Bytes read at a time: small enough that writes do not have to wait for them, and that `terminate` is quick. */
const SLICE = 1024 * 1024;

/** The descriptor is shared by the process's threads; it must stay open until `close` has resolved. */
export class HashedFile {
  readonly #thread: HashThread<Request, Answer>;
  readonly #mayRetry: (error: Error) => Promise<boolean>;
  /** Writes that have no answer yet. */
  readonly #waiting: Deferred<Answer>[] = [];
  #failure: Error | null = null;
  #end = 0;

  /** @param mayRetry Asked when a write has failed: whether it may succeed now. */
  constructor(
    fd: number,
    algorithm: HashAlgorithm,
    mayRetry: (error: Error) => Promise<boolean> = async () => false,
  ) {
    const setup: Setup = { fd, algorithm, slice: SLICE };
    this.#thread = new HashThread(fileLoop, setup, (answer) => this.#waiting.shift()?.resolve(answer));
    this.#mayRetry = mayRetry;
    this.#thread.digest.catch((error: Error) => {
      this.#failure = error;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
  }

  /**
   * Resolves when the bytes are written. Several writes may be under way; each byte of the file comes once. Nobody else may
   * use the pieces before it resolves; those that are not in shared memory are gone.
   * @throws the system's error; after `close` and when the thread has failed, why.
   */
  async write(pieces: Uint8Array[], at: number): Promise<void> {
    for (let rest = pieces; ; ) {
      const { failure } = await this.#ask({ pieces: rest.map(owned), at });
      if (failure === null) return;
      const { pieces: back, message, ...fields } = failure;
      const error = Object.assign(new Error(message), fields);
      if (!(await this.#mayRetry(error))) throw error;
      rest = back;
    }
  }

  /** The file's first `end` bytes are written, and stay as they are. */
  advance(end: number): void {
    if (end <= this.#end) return;
    this.#end = end;
    this.#thread.send(end);
  }

  /** The digest of all that `advance` allowed, in hex. @throws what reading the file threw. */
  digest(): Promise<string> {
    this.#thread.send(null);
    return this.#thread.digest;
  }

  /** Ends the thread; resolves when it does not touch the descriptor any more. */
  close(): Promise<void> {
    return this.#thread.close();
  }

  async #ask(write: Write): Promise<Answer> {
    if (this.#failure) throw this.#failure;
    const answer = deferred<Answer>();
    this.#waiting.push(answer);
    const moved = write.pieces.map(({ buffer }) => buffer).filter((buffer) => buffer instanceof ArrayBuffer);
    this.#thread.send(write, moved);
    return await answer.promise;
  }
}

/** A piece that another thread can have: copied, if its memory is neither shared nor its own. */
function owned(piece: Uint8Array): Uint8Array {
  const { buffer, byteLength } = piece;
  const whole = buffer instanceof SharedArrayBuffer || byteLength === buffer.byteLength;
  return whole ? piece : new Uint8Array(piece);
}

/** What the thread runs. Its text goes there, so it refers to nothing outside itself. */
function fileLoop(): void {
  const { parentPort: port, workerData } = process.getBuiltinModule('node:worker_threads');
  const { createHash } = process.getBuiltinModule('node:crypto');
  const { readSync, writevSync } = process.getBuiltinModule('node:fs');
  const { fd, algorithm, slice } = workerData as Setup;
  const hash = createHash(algorithm);
  let bytes: Uint8Array | null = null;
  let hashed = 0;
  let end = 0;
  let reading = false;
  let finishing = false;

  const store = ({ pieces, at }: Write) => {
    let [rest, to] = [pieces, at];
    while (rest.length > 0) {
      let count = writevSync(fd, rest, to);
      to += count;
      const left: Uint8Array[] = [];
      for (const piece of rest) {
        if (count < piece.byteLength) left.push(piece.subarray(count));
        count = Math.max(0, count - piece.byteLength);
      }
      rest = left;
    }
  };

  const write = (request: Write) => {
    const { pieces, at } = request;
    try {
      store(request);
    } catch (error) {
      const { message, code, errno, syscall } = error as NodeJS.ErrnoException;
      const moved = pieces.map(({ buffer }) => buffer).filter((buffer) => buffer instanceof ArrayBuffer);
      return port?.postMessage({ failure: { message, code, errno, syscall, pieces } }, moved);
    }
    const inOrder = at === hashed;
    for (const piece of inOrder ? pieces : []) {
      hash.update(piece);
      hashed += piece.byteLength;
    }
    // Not before: from then on the memory is the writer's.
    port?.postMessage({ failure: null });
  };

  const read = () => {
    reading = false;
    if (hashed < end) {
      bytes ??= new Uint8Array(slice);
      const count = readSync(fd, bytes, 0, Math.min(slice, end - hashed), hashed);
      if (count === 0) throw new Error('the file became shorter while it was hashed');
      hash.update(bytes.subarray(0, count));
      hashed += count;
    }
    goOn();
  };

  // A slice in each turn of the loop: writes come first.
  const goOn = () => {
    if (hashed < end) {
      if (!reading) setImmediate(read);
      reading = true;
    } else if (finishing) {
      finishing = false;
      port?.postMessage(hash.digest('hex'));
    }
  };

  port?.on('message', (request: Request | null) => {
    if (request === null) finishing = true;
    else if (typeof request === 'number') end = request;
    else write(request);
    goOn();
  });
}
