/** Frames on their way to a socket: collected in one memory, and written together. */
import type { Socket } from 'node:net';

/** Bytes that are collected at most before they are written. */
export const MAX_BATCH = 256 * 1024;
/** Bytes that wait for the socket, from which on frames are dropped. */
export const CONGESTED = 1024 * 1024;
/** Memories that are kept for later. */
const SPARES = 4;
const NO_BYTES = Buffer.alloc(0);

/**
 * To use it: `const at = reserve(size)`, then `size` bytes to `buffer` at `at`, then `commit(size)`. What was written and not
 * taken by the socket stays as it is; memory is bounded by {@link CONGESTED} and two batches.
 */
export class FrameBatch {
  buffer: Buffer = NO_BYTES;
  readonly #socket: Socket;
  #used = 0;
  readonly #spares: Buffer[] = [];
  /** Of each write that the socket has not confirmed: the memory that is free then, or none. */
  readonly #writing: Buffer[] = [];
  #flushing: NodeJS.Immediate | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Bytes that were collected and not written. */
  get used(): number {
    return this.#used;
  }

  /** Where `size` bytes may be put; −1: nowhere, because the socket is congested or gone, or it is more than a batch. */
  reserve(size: number): number {
    if (this.#used + size > MAX_BATCH) this.#write();
    const socket = this.#socket;
    if (size > MAX_BATCH || socket.writableLength > CONGESTED || !socket.writable) return -1;
    if (this.buffer.length === 0) this.buffer = this.#spares.pop() ?? Buffer.allocUnsafeSlow(MAX_BATCH);
    return this.#used;
  }

  /** They are there. They are written at the end of the event loop's turn, if nobody asks for it before. */
  commit(size: number): void {
    this.#used += size;
    this.#flushing ??= setImmediate(this.#flushLater);
  }

  /** Writes what was collected; while frames written before still wait for the socket, more is collected. */
  flush(): void {
    if (this.#used === 0) return;
    // When those are taken we hear of it. Of others' bytes we do not.
    if (this.#socket.writableLength === 0 || this.#writing.length === 0) this.#write();
  }

  /** Writes it, whatever waits: something else is written behind it. */
  flushAll(): void {
    if (this.#used > 0) this.#write();
  }

  readonly #flushLater = (): void => {
    this.#flushing = undefined;
    this.flush();
  };

  #write(): void {
    const [socket, buffer, used] = [this.#socket, this.buffer, this.#used];
    this.#used = 0;
    if (used === 0 || !socket.writable) return;
    // Little does not keep a whole memory waiting.
    const isLittle = used < MAX_BATCH / 2 && socket.writableLength > 0;
    this.#writing.push(isLittle ? NO_BYTES : buffer);
    const bytes = buffer.subarray(0, used);
    socket.write(isLittle ? Buffer.from(bytes) : bytes, this.#written);
    if (isLittle) return;
    // Taken at once: the memory is free again, which is the usual case.
    if (socket.writableLength === 0) this.#writing[this.#writing.length - 1] = NO_BYTES;
    else this.buffer = NO_BYTES;
  }

  readonly #written = (): void => {
    const memory = this.#writing.shift() ?? NO_BYTES;
    if (memory.length > 0 && this.#spares.length < SPARES) this.#spares.push(memory);
    this.flush();
  };
}
