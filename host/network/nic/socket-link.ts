/** What both kinds of links are: a socket that is watched, read in turns and written when it has room, and an end. */
import type { HostNative } from '../../../native/host-face.ts';
import { hasErrno, YavmError } from '../../lib/errors.ts';
import type { FrameBatch, FrameLink } from './frame-link.ts';

/** What of the addon a link uses. */
export type LinkNative = Pick<
  HostNative,
  'watch' | 'unwatch' | 'close' | 'receiveDatagrams' | 'sendDatagrams' | 'receiveBytes' | 'sendBytes'
>;

const READABLE = 1;
const WRITABLE = 2;

/** Reads of one turn of the event loop, at most: the thread has other links, and a bus. */
const TURN = 4;

/** Bytes that a link queues, at most. */
export const MAX_QUEUED = 1024 * 1024;
/** How full a queue is when its link is pressed, and when there is room again. What one read of another link brings fits on top. */
const PRESSED = 1 / 4;
const ROOM = 1 / 16;

/** How a socket says that its other end is gone. */
const GONE = ['EPIPE', 'ECONNRESET', 'ENOTCONN'];

export abstract class SocketLink implements FrameLink {
  onBatch: (batch: FrameBatch) => void = () => {};
  onEnd: (error: Error | null) => void = () => {};
  onRoom: () => void = () => {};
  readonly counters = { framesIn: 0, bytesIn: 0, framesOut: 0, bytesOut: 0, dropped: 0 };
  protected readonly native: LinkNative;
  protected readonly fd: number;
  #state: 'open' | 'ended' | 'closed' = 'open';
  #paused = false;
  /** The socket took less than it was given: it says when it has room. */
  #blocked = false;
  /** Somebody was told to wait for room. */
  #tight = false;
  #watched = 0;
  #flushing = false;

  /** Takes `fd` over, which is non-blocking. */
  constructor(native: LinkNative, fd: number) {
    this.native = native;
    this.fd = fd;
    this.#watch();
  }

  abstract send(bytes: Uint8Array, offset: number, length: number): boolean;
  /** How full the queue is: 0 … 1. */
  protected abstract get fill(): number;
  /** Whether something was read that is not handed on yet. */
  protected abstract get hasRead(): boolean;
  /** One read, and its batches. False: nothing more is there now. */
  protected abstract read(): boolean;
  /** Gives the socket what is queued. False: it has not taken all. */
  protected abstract write(): boolean;

  get pressed(): boolean {
    return this.fill > PRESSED;
  }

  flush(): void {
    if (this.#state !== 'open' || this.#blocked || this.fill === 0) return;
    this.#blocked = !this.write();
    if (this.#blocked) this.#watch();
  }

  pause(): void {
    this.#paused = true;
    this.#watch();
  }

  resume(): void {
    this.#paused = false;
    this.#watch();
    if (this.hasRead) setImmediate(this.#readTurn);
  }

  close(): void {
    this.#release();
    this.#state = 'closed';
  }

  protected get isOpen(): boolean {
    return this.#state === 'open';
  }

  /** Whether batches are wanted: a handler may pause or close its link at any time. */
  protected get isReading(): boolean {
    return this.#state === 'open' && !this.#paused;
  }

  protected get isBlocked(): boolean {
    return this.#blocked;
  }

  /** The socket took part of what it was given directly; the rest is queued. */
  protected block(): void {
    this.#blocked = true;
    this.#watch();
  }

  /** To be called after something was queued. `full`: so much that it is worth a system call. */
  protected queuedMore(full: boolean): void {
    if (full) this.flush();
    if (this.pressed) this.#tight = true;
    if (this.#flushing || this.#blocked || this.fill === 0) return;
    this.#flushing = true;
    // After all events that are ready now: one system call takes what they all brought.
    setImmediate(this.#flushTurn);
  }

  /** Counts frames that found no room. @returns false, for `send`. */
  protected refuse(frames: number): false {
    this.counters.dropped += frames;
    if (this.fill > 0) this.#tight = true;
    return false;
  }

  /** Ends with what a system call threw. */
  protected fail(error: unknown): void {
    if (GONE.some((errno) => hasErrno(error, errno))) this.end(null);
    else this.end(new YavmError('YAVM_E_NET_FRAME', "a network card's cable broke", { cause: error }));
  }

  /** `onEnd` comes later: who called may be in the middle of a batch of another link. */
  protected end(error: Error | null): void {
    if (this.#state !== 'open') return;
    this.#release();
    this.#state = 'ended';
    setImmediate(() => {
      if (this.#state === 'ended') this.onEnd(error);
    });
  }

  readonly #flushTurn = (): void => {
    this.#flushing = false;
    this.flush();
  };

  readonly #ready = (events: number): void => {
    if (this.#blocked && (events & WRITABLE) !== 0) {
      this.#blocked = false;
      this.flush();
      if (this.#tight && this.fill <= ROOM && this.#state === 'open') {
        this.#tight = false;
        this.onRoom();
      }
    }
    if ((events & READABLE) !== 0) this.#readTurn();
    this.#watch();
  };

  readonly #readTurn = (): void => {
    for (let turn = 0; turn < TURN && this.isReading; turn++) {
      if (!this.read()) break;
    }
  };

  #watch(): void {
    if (this.#state !== 'open') return;
    const wanted = (this.#paused ? 0 : READABLE) | (this.#blocked ? WRITABLE : 0);
    if (wanted === this.#watched) return;
    this.#watched = wanted;
    if (wanted === 0) this.native.unwatch(this.fd);
    else this.native.watch(this.fd, wanted, this.#ready);
  }

  #release(): void {
    if (this.#state !== 'open') return;
    this.native.unwatch(this.fd);
    this.native.close(this.fd);
  }
}
