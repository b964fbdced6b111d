/** A link whose frames follow one another in a stream, each behind its length (u32, big-endian): QEMU's framing, and passt's. */
import { YavmError } from '../../lib/errors.ts';
import { readU32, writeU32 } from '../frame/layout.ts';
import { ETHERNET_HEADER, MAX_FRAME } from '../types.ts';
import { copyBytes } from './copy.ts';
import type { FrameBatch } from './frame-link.ts';
import { MAX_QUEUED, SocketLink } from './socket-link.ts';

/** The length in front of a frame. Bytes. */
export const FRAME_LENGTH = 4;
/** Frames of one batch, at most. */
const BATCH = 256;
const READ_BUFFER = 256 * 1024;
/** A read into less than this moves the frame that has begun to the buffer's front first. A frame fits. */
const LEAST_READ = FRAME_LENGTH + MAX_FRAME;
/** Bytes that are worth a write before the turn ends. */
const FULL = 64 * 1024;

export class StreamLink extends SocketLink {
  /** Behind each offset's length of 4 bytes; frames of one batch lie one after the other, with nothing else between them. */
  readonly #batch: FrameBatch = {
    bytes: new Uint8Array(READ_BUFFER),
    count: 0,
    offsets: new Uint32Array(BATCH),
    lengths: new Uint32Array(BATCH),
  };
  /** Bytes #head … #tail − 1 have been read, and not been handed on. */
  #head = 0;
  #tail = 0;
  /** Bytes #first … #last − 1 wait for the socket. */
  readonly #queue = new Uint8Array(MAX_QUEUED);
  #first = 0;
  #last = 0;

  override send(bytes: Uint8Array, offset: number, length: number): boolean {
    if (!this.isOpen || length < ETHERNET_HEADER || length > MAX_FRAME) return this.refuse(1);
    if (!this.#hasRoom(FRAME_LENGTH + length)) return this.refuse(1);
    writeU32(this.#queue, this.#last, length);
    copyBytes(bytes, offset, length, this.#queue, this.#last + FRAME_LENGTH);
    this.#last += FRAME_LENGTH + length;
    this.counters.framesOut++;
    this.counters.bytesOut += length;
    this.queuedMore(this.#last - this.#first >= FULL);
    return true;
  }

  /**
   * Sends frames that lie one after the other from `start` to `end`, each behind its length: as the batches of another
   * stream have them. They go to the socket as they lie when nothing waits for it, else to the queue. False: no room for
   * all of them, and all are dropped.
   */
  sendFramed(bytes: Uint8Array, start: number, end: number): boolean {
    const frames = countFrames(bytes, start, end);
    if (!this.isOpen) return this.refuse(frames);
    this.flush();
    let from = start;
    if (this.fill === 0 && !this.isBlocked && this.isOpen && end - start <= MAX_QUEUED) {
      try {
        from += Math.max(0, this.native.sendBytes(this.fd, bytes, start, end - start));
      } catch (error) {
        this.fail(error);
      }
    }
    if (!this.isOpen || !this.#hasRoom(end - from)) return this.refuse(frames);
    this.counters.framesOut += frames;
    this.counters.bytesOut += end - start - frames * FRAME_LENGTH;
    if (from === end) return true;
    copyBytes(bytes, from, end - from, this.#queue, this.#last);
    this.#last += end - from;
    if (!this.isBlocked) this.block();
    this.queuedMore(false);
    return true;
  }

  protected override get fill(): number {
    return (this.#last - this.#first) / MAX_QUEUED;
  }

  protected override get hasRead(): boolean {
    return this.#head < this.#tail;
  }

  protected override read(): boolean {
    // What a handler that paused has left.
    this.#handOn();
    if (!this.isReading) return false;
    const { bytes } = this.#batch;
    if (bytes.length - this.#tail < LEAST_READ) this.#moveToFront();
    const room = bytes.length - this.#tail;
    let received: number;
    try {
      received = this.native.receiveBytes(this.fd, bytes, this.#tail, room);
    } catch (error) {
      this.fail(error);
      return false;
    }
    if (received === 0) this.end(null);
    if (received <= 0) return false;
    this.#tail += received;
    this.#handOn();
    return received === room;
  }

  protected override write(): boolean {
    try {
      const taken = this.native.sendBytes(this.fd, this.#queue, this.#first, this.#last - this.#first);
      this.#first += Math.max(0, taken);
    } catch (error) {
      this.fail(error);
      return true;
    }
    if (this.#first < this.#last) return false;
    this.#first = this.#last = 0;
    return true;
  }

  #handOn(): void {
    while (this.isReading && this.#takeBatch()) this.onBatch(this.#batch);
    if (this.#head === this.#tail) this.#head = this.#tail = 0;
  }

  /** Whole frames become the next batch. False: there is none. Bytes that are no frame end the link, after those before them. */
  #takeBatch(): boolean {
    const { bytes, offsets, lengths } = this.#batch;
    const start = this.#head;
    let count = 0;
    while (count < BATCH && this.#tail - this.#head >= FRAME_LENGTH) {
      const length = readU32(bytes, this.#head);
      const sound = length >= ETHERNET_HEADER && length <= MAX_FRAME;
      if (!sound && count === 0) this.end(garbage(length));
      if (!sound || this.#tail - this.#head < FRAME_LENGTH + length) break;
      offsets[count] = this.#head + FRAME_LENGTH;
      lengths[count] = length;
      count++;
      this.#head += FRAME_LENGTH + length;
    }
    this.#batch.count = count;
    this.counters.framesIn += count;
    this.counters.bytesIn += this.#head - start - count * FRAME_LENGTH;
    return count > 0;
  }

  #moveToFront(): void {
    this.#batch.bytes.copyWithin(0, this.#head, this.#tail);
    this.#tail -= this.#head;
    this.#head = 0;
  }

  /** Moves what waits to the front when that is worth it: after half has gone. */
  #hasRoom(length: number): boolean {
    if (this.#last + length <= MAX_QUEUED) return true;
    if (this.#first < MAX_QUEUED / 2) return false;
    this.#queue.copyWithin(0, this.#first, this.#last);
    this.#last -= this.#first;
    this.#first = 0;
    return this.#last + length <= MAX_QUEUED;
  }
}

function garbage(length: number): YavmError {
  return new YavmError(
    'YAVM_E_NET_FRAME',
    `a network card's cable brought a frame of ${length} bytes; frames have ${ETHERNET_HEADER} to ${MAX_FRAME}`,
  );
}

function countFrames(bytes: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; count++) at += FRAME_LENGTH + readU32(bytes, at);
  return count;
}
