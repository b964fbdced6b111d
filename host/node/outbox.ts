/**
 * What waits to be read by one peer. A peer that does not read holds back those who send to it, one message each, and
 * nobody for longer than a configurable time (exe-unit.md 1.6, 1.7); so memory is bounded by the number of peers.
 */
import type { Socket } from 'node:net';
import type { Clock } from './clock.ts';

/** Messages in a peer's buffer from which on others wait: the real router's mark (1.7). */
const MAX_MESSAGES = 16;
/** Bytes in it from which on others wait: 16 messages may be of any size. */
const MAX_BYTES = 8 * 1024 * 1024;

/** Bytes in it from which on frames are dropped: less than a messages' mark, so that they do not hold messages back. */
const MAX_FRAMES = 1024 * 1024;

/** What became of a message: in the buffer; given up after the time; the peer is gone. */
export type Sent = 'taken' | 'stalled' | 'lost';

export class Outbox {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #stalledAfter: number;
  readonly #waiting = new Set<() => void>();
  #messages = 0;
  #bytes = 0;
  #closed = false;

  constructor(socket: Socket, clock: Clock, stalledAfter: number) {
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

  /** Buffers a message that may get lost, however many there are; false: it was dropped. */
  push(message: Uint8Array): boolean {
    if (this.#closed || this.#waiting.size > 0 || this.#bytes > MAX_FRAMES) return false;
    this.#bytes += message.byteLength;
    this.#socket.write(message, () => {
      this.#bytes -= message.byteLength;
      this.#wake();
    });
    return true;
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
    this.#messages++;
    this.#bytes += message.byteLength;
    this.#socket.write(message, () => {
      this.#messages--;
      this.#bytes -= message.byteLength;
      this.#wake();
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
