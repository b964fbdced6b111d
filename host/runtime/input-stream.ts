/** A stream to the guest, as a Node Writable: it sends as much as the guest gave credit for, and waits for more. */
import { Writable } from 'node:stream';
import { FrameType, MAX_DATA_PAYLOAD } from '../../guest/protocol/frames.ts';
import type { FramePort } from './frame-port.ts';

/** Credit that a guest can sensibly have given; more is an attempt to make us queue. */
const MAX_CREDIT = 64 * 1024 * 1024;

type Callback = (error?: Error | null) => void;

export class InputStream extends Writable {
  readonly id: number;
  readonly #port: FramePort;
  #credit: number;
  /** Whether the receiver is there. Before its first credit not even an end may be sent: it would find nobody. */
  #open: boolean;
  #sent = 0;
  /** Nobody reads any more: what is still written is dropped, as a shell drops it for a program that has ended. */
  #closed = false;
  /** The write or end that waits for credit, or for the port. */
  #waiting: (() => void) | null = null;
  /** The port will call back when it takes more. */
  #queued = false;
  readonly #endsWhenBroken: boolean;

  /**
   * `credit`: bytes that the receiver is known to take; none while it has yet to announce itself by its first credit.
   * `endsWhenBroken`: a stream that is destroyed tells its reader of an end, as a pipe does whose writer dies.
   */
  constructor(id: number, port: FramePort, { credit = 0, endsWhenBroken = true } = {}) {
    super({ highWaterMark: 64 * 1024, decodeStrings: true });
    this.#endsWhenBroken = endsWhenBroken;
    this.id = id;
    this.#port = port;
    this.#credit = credit;
    this.#open = credit > 0;
    // Failures reach who waits for the command or transfer; without a listener of its own this one must not crash us.
    this.on('error', () => {});
  }

  /** Bytes handed to the port. */
  get sent(): number {
    return this.#sent;
  }

  /** Whether the guest is to move next: it has bytes to take, or has to give credit. */
  get waitingForGuest(): boolean {
    return this.#waiting !== null || this.writableLength > 0;
  }

  /** The guest takes so many bytes more. @throws {Error} when that is beyond all sense. */
  grant(bytes: number): void {
    this.#open = true;
    this.#credit += bytes;
    if (this.#credit > MAX_CREDIT) throw new Error(`stream ${this.id}: credit of ${this.#credit} bytes`);
    this.#wake();
  }

  /** The reader is gone: pending and later writes succeed and lead nowhere. */
  release(): void {
    this.#closed = true;
    this.#wake();
  }

  /** The stream broke off. */
  fail(error: Error): void {
    this.#closed = true;
    const waiting = this.#waiting;
    this.#waiting = null;
    this.destroy(error);
    waiting?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#sendFrom(chunk, 0, callback);
  }

  override _final(callback: Callback): void {
    this.#sendEnd(callback);
  }

  /** Destroyed without end(): a reader that cannot be told otherwise must not wait for ever. */
  override _destroy(error: Error | null, callback: Callback): void {
    const done = () => {
      this.#closed = true;
      callback(error);
    };
    this.#waiting = null;
    if (this.writableFinished || !this.#endsWhenBroken) done();
    else this.#sendEnd(done);
  }

  #sendEnd(callback: Callback): void {
    if (!this.#closed && !this.#open) {
      this.#waiting = () => this.#sendEnd(callback);
      return;
    }
    if (!this.#closed) this.#port.send(FrameType.end, this.id, new Uint8Array(0));
    callback();
  }

  #sendFrom(chunk: Buffer, offset: number, callback: Callback): void {
    if (this.#closed || offset >= chunk.length) {
      callback();
      return;
    }
    const size = Math.min(chunk.length - offset, this.#credit, MAX_DATA_PAYLOAD);
    if (size === 0 || this.#port.congested) {
      this.#waiting = () => this.#sendFrom(chunk, offset, callback);
      if (size > 0) this.#awaitPort();
      return;
    }
    this.#credit -= size;
    this.#sent += size;
    this.#port.sendData(this.id, chunk.subarray(offset, offset + size), () =>
      this.#sendFrom(chunk, offset + size, callback),
    );
  }

  /** One frame of bulk waits in the port at a time, however many streams have credit. */
  #awaitPort(): void {
    if (this.#queued) return;
    this.#queued = true;
    this.#port.whenWritable(() => {
      this.#queued = false;
      this.#wake();
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.();
  }
}
