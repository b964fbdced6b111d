/**
 * Takes a body from its connection without the copies, objects and garbage of Node's streams: the kernel, or TLS, puts the
 * bytes where a thread writes and hashes them. Of 512 MiB that is 0.8 s of CPU, as much as most of their hash takes.
 */
import type { IncomingMessage } from 'node:http';
import type { OnReadOpts, Socket } from 'node:net';
import { finished } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { type Deferred, deferred } from '../lib/deferred.ts';
import { HttpError } from './http-error.ts';
import { Ring } from './ring.ts';

/** Bytes of a body that are held. */
const RING = 4 * 1024 * 1024;
/** Bytes; fewer are not worth the memory. */
const LEAST = 1024 * 1024;
/** Bytes that TLS may still have when its connection is not read any more: those of one reading. */
const RESERVE = 256 * 1024;
/** Bytes given at once, at most; fewer wait for what comes in the same turn of the loop. Larger ones make the others wait. */
const BATCH = 512 * 1024;
/** Bytes read at once for the parser of headers. */
const HEAD = 64 * 1024;

/** For the answer to one request. It is given to the connection before that is made. */
export class Tap {
  #socket: Socket | null = null;
  #ring: Ring | null = null;
  #wake: Deferred<void> = deferred();
  #received = 0;
  #paused = false;

  /** What the connection is made with. Until `read` all goes to its stream as usual. */
  get onread(): OnReadOpts {
    return { buffer: () => this.#space(), callback: (count, bytes) => this.#take(count, bytes) };
  }

  /** It was made with `onread`; the last one counts. */
  attach(socket: Socket): void {
    this.#socket = socket;
  }

  /** Whether `read` can have this body, of which nothing was read yet. */
  fits(body: IncomingMessage, length: number): boolean {
    const socket = this.#socket;
    if (socket === null || socket !== body.socket || this.#ring !== null) return false;
    if (body.headers['transfer-encoding'] !== undefined || body.complete) return false;
    const early = body.readableLength + socket.readableLength;
    return early <= RING - LEAST && length - early >= LEAST;
  }

  /**
   * Yields what is there, one piece at least, each time. The pieces are in shared memory, and valid until `free`.
   * @param length Bytes of the body.
   * @throws what the body fails with, behind the bytes before; {HttpError} there are more
   */
  async *read(body: IncomingMessage, length: number, shown: string): AsyncIterable<Uint8Array[]> {
    const ring = new Ring(RING);
    // To the parser, which hands it on to the body at once.
    body.socket.read();
    this.#received = body.readableLength;
    this.#ring = ring;
    // Lets the socket go on, too.
    const early: Uint8Array | null = body.read();
    if (early) ring.put(early);
    let end: { error: unknown } | null = null;
    finished(body, { writable: false })
      .catch((error: unknown) => error)
      .then((error) => {
        end = { error };
        this.#wake.resolve();
      });
    for (;;) {
      const over = (): boolean => end !== null || this.#received >= length;
      if (ring.waiting === 0 && !over()) await this.#wake.promise;
      this.#wake = deferred();
      if (ring.waiting < BATCH && !over()) await turn();
      if (this.#received > length) throw new HttpError(`${shown}: more bytes come than were announced`);
      const pieces = ring.take(BATCH);
      if (pieces.length > 0) yield pieces;
      else if (this.#received === length) return;
      else if (end !== null) throw (end as { error: unknown }).error;
    }
  }

  /** So many bytes are used, the first that were read. */
  free(count: number): void {
    const ring = this.#ring;
    if (ring === null) return;
    ring.free(count);
    if (!this.#paused || ring.room < RING / 2) return;
    this.#paused = false;
    this.#socket?.resume();
  }

  #space(): Uint8Array {
    // Asked for after each reading, also when no other follows.
    if (this.#ring && this.#ring.room > 0) return this.#ring.space();
    return Buffer.allocUnsafeSlow(HEAD);
  }

  /** @returns false: no more for now */
  #take(count: number, bytes: Uint8Array): boolean {
    const ring = this.#ring;
    if (ring === null) return this.#socket?.push(bytes.subarray(0, count)) ?? false;
    this.#received += count;
    if (bytes.buffer === ring.memory) ring.fill(count);
    else if (count <= ring.room) ring.put(bytes.subarray(0, count));
    else this.#socket?.destroy(new Error('bytes come that nobody reads'));
    this.#wake.resolve();
    this.#paused = ring.room < RESERVE;
    return !this.#paused;
  }
}
