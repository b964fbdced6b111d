/** Requests as they come in, in order and bounded: while one is served the next ones wait here, then in the pipe. */
import type { Readable } from 'node:stream';
import { toError } from '../lib/errors.ts';
import { type Frame, FrameDecoder, MAX_REQUEST } from './frames.ts';
import type { ApiRequest } from './messages.ts';
import { BadRequest, decodeRequest, readId } from './wire.ts';

/** Requests that wait at most; the supervisor has one under way at a time. */
const MAX_WAITING = 64;

/** A request, or why there is none. */
export type Delivery = ApiRequest | BadRequest;

export class Inbox {
  /** Resolves when nothing more comes: null at the end of the stream, else what is wrong with it. Never rejects. */
  readonly ended: Promise<Error | null>;
  readonly #input: Readable;
  readonly #decoder = new FrameDecoder();
  readonly #waiting: Delivery[] = [];
  #over = false;
  #wake: (() => void) | null = null;

  /** Reads from now on: an end is seen even before anybody asks for a request. */
  constructor(input: Readable) {
    this.#input = input;
    this.ended = new Promise((resolve) => {
      const end = (error: Error | null) => {
        this.#over = true;
        this.#notify();
        resolve(error);
      };
      input.on('data', (chunk: Uint8Array) => {
        try {
          this.#receive(chunk);
        } catch (error) {
          input.destroy();
          end(toError(error));
        }
      });
      input.once('end', () => end(null));
      input.once('close', () => end(null));
      input.on('error', end);
    });
  }

  /** The next request; null when there will be none. */
  async next(): Promise<Delivery | null> {
    while (this.#waiting.length === 0 && !this.#over) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const delivery = this.#waiting.shift() ?? null;
    if (this.#waiting.length < MAX_WAITING) this.#input.resume();
    return delivery;
  }

  /** Reads no more: whoever waits gets null. */
  close(): void {
    this.#over = true;
    this.#waiting.length = 0;
    this.#input.destroy();
    this.#notify();
  }

  /** One chunk of the pipe (64 KiB) may bring more than the bound; what comes after it waits in the pipe. */
  #receive(chunk: Uint8Array): void {
    for (const frame of this.#decoder.push(chunk)) this.#waiting.push(open(frame));
    if (this.#waiting.length >= MAX_WAITING) this.#input.pause();
    this.#notify();
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = null;
  }
}

function open(frame: Frame): Delivery {
  if ('tooLong' in frame) {
    const message = `a request of ${frame.tooLong} bytes, ${MAX_REQUEST} at most`;
    return new BadRequest(readId(frame.head), message);
  }
  try {
    return decodeRequest(frame.bytes);
  } catch (error) {
    if (error instanceof BadRequest) return error;
    throw error;
  }
}
