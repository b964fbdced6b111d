/** One port of a VM as the host holds it: a socket that carries frames, read into one fixed buffer. */
import type { OnReadOpts, Socket } from 'node:net';
import { encodeCredit, encodeFrame, FRAME_HEADER, FrameType } from '../../guest/protocol/frames.ts';
import { toError } from '../lib/errors.ts';
import { type FrameHandlers, FrameReader } from './frame-reader.ts';

/** What a read takes at most: as much as a UNIX socket holds by default. */
const READ_BUFFER = 256 * 1024;

/** Bytes queued for a guest that does not read, at most. Bulk data waits for the socket, so only messages can pile up. */
const MAX_QUEUED = 4 * 1024 * 1024;

/** Makes the socket; `onread` must be passed on to `new Socket({ fd, onread })` or `connect({ path, onread })`. */
export type Connect = (onread: OnReadOpts) => Socket;

/** Why a port stopped: the peer closed it (null), or what it sent, or did not read, is against the protocol. */
export type PortEndListener = (error: Error | null) => void;

export class FramePort {
  /** For messages: `yavm.control`. */
  readonly name: string;
  readonly #socket: Socket;
  readonly #onEnd: PortEndListener;
  #ended = false;
  #resume: NodeJS.Timeout | null = null;
  #pauseFor = 0;
  #waiting: (() => void)[] = [];

  /** `onEnd` is called once, unless {@link close} was called before. */
  constructor(name: string, connect: Connect, handlers: FrameHandlers, onEnd: PortEndListener) {
    this.name = name;
    this.#onEnd = onEnd;
    const reader = new FrameReader(handlers);
    const buffer = Buffer.allocUnsafeSlow(READ_BUFFER);
    const callback = (count: number): boolean => {
      if (this.#ended) return false;
      try {
        reader.push(buffer.subarray(0, count));
      } catch (error) {
        this.#end(toError(error));
      }
      return !this.#ended && !this.#startPause();
    };
    this.#socket = connect({ buffer, callback });
    this.#socket.on('drain', () => this.#wake());
    this.#socket.on('end', () => this.#end(null));
    this.#socket.on('close', () => this.#end(null));
    // A reset is how a peer that was killed closes.
    this.#socket.on('error', () => this.#end(null));
  }

  /** Queues one small frame. A guest that leaves megabytes unread ends the port. */
  send(type: FrameType, stream: number, payload: Uint8Array): void {
    this.#write(() => {
      this.#socket.write(encodeFrame(type, stream, payload));
    });
  }

  sendCredit(stream: number, bytes: number): void {
    this.#write(() => {
      this.#socket.write(encodeCredit(stream, bytes));
    });
  }

  /** Queues a DATA frame without copying `piece`, which must not change until `done`: the peer's socket has all of it. */
  sendData(stream: number, piece: Uint8Array, done: () => void): void {
    this.#write(() => {
      const header = encodeFrame(FrameType.data, stream, new Uint8Array(0));
      new DataView(header.buffer).setUint32(0, piece.length + FRAME_HEADER - 4, true);
      this.#socket.cork();
      this.#socket.write(header);
      this.#socket.write(piece, (error) => {
        if (!error) done();
      });
      this.#socket.uncork();
    });
  }

  /** Whether more waits for the peer than it is worth adding to. */
  get congested(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Calls back when the port is not congested, at once when it is not now; never after the port's end. */
  whenWritable(callback: () => void): void {
    if (this.#ended) return;
    if (!this.congested) callback();
    else this.#waiting.push(callback);
  }

  /** Reads nothing for a while: the peer has to wait, and costs no time. Takes effect after the current read. */
  pause(milliseconds: number): void {
    this.#pauseFor = Math.max(this.#pauseFor, milliseconds);
  }

  /** Closes without a call of `onEnd`. */
  close(): void {
    this.#ended = true;
    this.#release();
  }

  #write(write: () => void): void {
    if (this.#ended || this.#socket.destroyed) return;
    if (this.#socket.writableLength > MAX_QUEUED) {
      this.#end(new Error(`${this.#socket.writableLength} bytes wait for a guest that does not read`));
      return;
    }
    write();
  }

  #startPause(): boolean {
    if (this.#pauseFor <= 0 || this.#resume) return this.#resume !== null;
    this.#resume = setTimeout(() => {
      this.#resume = null;
      if (!this.#ended) this.#socket.resume();
    }, this.#pauseFor);
    this.#resume.unref();
    this.#pauseFor = 0;
    return true;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const callback of waiting) this.whenWritable(callback);
  }

  #end(error: Error | null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#release();
    this.#onEnd(error);
  }

  #release(): void {
    if (this.#resume) clearTimeout(this.#resume);
    this.#waiting = [];
    this.#socket.destroy();
  }
}
