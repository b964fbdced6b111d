/**
 * What waits to be read by one peer. A peer that does not read holds back those who send to it, one message each, and
 * nobody for longer than a configurable time (exe-unit.md 1.6, 1.7); so memory is bounded by the number of peers.
 */
import type { Socket } from 'node:net';
import { FrameBatch } from '../gsb/frame-batch.ts';
import type { Clock } from './clock.ts';

/** Messages in a peer's buffer from which on others wait: the real router's mark (1.7). */
const MAX_MESSAGES = 16;
/** Bytes in it from which on others wait: 16 messages may be of any size. */
const MAX_BYTES = 8 * 1024 * 1024;

/** What became of a message: in the buffer; given up after the time; the peer is gone. */
export type Sent = 'taken' | 'stalled' | 'lost';

export class Outbox {
  /** Frames, written together; they do not count as messages, and have a bound of their own. */
  readonly frames: FrameBatch;
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #stalledAfter: number;
  readonly #waiting = new Set<() => void>();
  #messages = 0;
  #bytes = 0;
  #closed = false;

  constructor(socket: Socket, clock: Clock, stalledAfter: number) {
    this.frames = new FrameBatch(socket);
    this.#socket = socket;
    this.#clock = clock;
    this.#stalledAfter = stalledAfter;
  }

  /** Buffers a message; waits, in turn, while the buffer is full. Without a wait the answer is no promise: the usual case. */
  send(message: Uint8Array): Sent | Promise<Sent> {
    if (this.#closed) return 'lost';
    if (this.#waiting.size > 0 || !this.#hasRoom()) return this.#wait(message);
    this.#write(message);
    return 'taken';
  }

  /** Buffers a message if that needs no wait. */
  offer(message: Uint8Array): boolean {
    if (this.#closed || this.#waiting.size > 0 || !this.#hasRoom()) return false;
    this.#write(message);
    return true;
  }

  /** Whether a frame may be added; one that must not get lost comes behind what waits. */
  takesFrames(lossy: boolean): boolean {
    return !this.#closed && this.#waiting.size === 0 && (lossy || this.#hasRoom());
  }

  /** Who waits learns that the peer is gone. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  #hasRoom(): boolean {
    return this.#messages < MAX_MESSAGES && this.#bytes < MAX_BYTES;
  }

  #write(message: Uint8Array): void {
    this.frames.flushAll();
    this.#messages++;
    this.#bytes += message.byteLength;
    this.#socket.write(message, (error) => {
      this.#messages--;
      this.#bytes -= message.byteLength;
      // One that is gone has no room: what waits is lost, even before its end is seen.
      if (error) this.close();
      else this.#wake();
    });
  }

  #wait(message: Uint8Array): Promise<Sent> {
    return new Promise((resolve) => {
      const settle = (sent: Sent) => {
        forget();
        this.#waiting.delete(turn);
        resolve(sent);
      };
      const forget = this.#clock.after(this.#stalledAfter, () => settle('stalled'));
      const turn = () => {
        if (!this.#closed) this.#write(message);
        settle(this.#closed ? 'lost' : 'taken');
      };
      this.#waiting.add(turn);
    });
  }

  /** In the order in which they came; each takes its room before the next one is asked. */
  #wake(): void {
    for (const turn of this.#waiting) {
      if (!this.#closed && !this.#hasRoom()) return;
      turn();
    }
  }
}
