/** A link whose frames are datagrams: read and written in batches, one system call each. */
import { ETHERNET_HEADER, MAX_FRAME } from '../types.ts';
import { copyBytes } from './copy.ts';
import type { FrameBatch } from './frame-link.ts';
import { MAX_QUEUED, SocketLink } from './socket-link.ts';

/** Datagrams of one read, and those that are worth a write before the turn ends. */
const BATCH = 64;
/** Not a power of two: the beginnings of all slots would share one set of the processor's cache. */
const STRIDE = 65_536 + 192;
/** Frames that wait, at most. */
const MAX_FRAMES = 2048;

export class DatagramLink extends SocketLink {
  readonly #batch: FrameBatch = {
    bytes: new Uint8Array(BATCH * STRIDE),
    count: 0,
    offsets: new Uint32Array(BATCH),
    lengths: new Uint32Array(BATCH),
  };
  /** Frames #first … #count − 1 wait, one after the other in #queue up to #tail. */
  readonly #queue = new Uint8Array(MAX_QUEUED);
  readonly #offsets = new Uint32Array(MAX_FRAMES);
  readonly #lengths = new Uint32Array(MAX_FRAMES);
  #first = 0;
  #count = 0;
  #tail = 0;

  override send(bytes: Uint8Array, offset: number, length: number): boolean {
    if (!this.isOpen || length < ETHERNET_HEADER || length > MAX_FRAME) return this.refuse(1);
    if (!this.#hasRoom(length)) return this.refuse(1);
    copyBytes(bytes, offset, length, this.#queue, this.#tail);
    this.#offsets[this.#count] = this.#tail;
    this.#lengths[this.#count] = length;
    this.#tail += length;
    this.#count++;
    this.queuedMore(this.#count - this.#first >= BATCH);
    return true;
  }

  protected override get fill(): number {
    if (this.#first === this.#count) return 0;
    const bytes = this.#tail - (this.#offsets[this.#first] as number);
    return Math.max(bytes / MAX_QUEUED, (this.#count - this.#first) / MAX_FRAMES);
  }

  protected override get hasRead(): boolean {
    return false;
  }

  protected override read(): boolean {
    const { bytes, offsets, lengths } = this.#batch;
    let received: number;
    try {
      received = this.native.receiveDatagrams(this.fd, bytes, STRIDE, lengths);
    } catch (error) {
      this.fail(error);
      return false;
    }
    let count = 0;
    for (let slot = 0; slot < received; slot++) {
      const length = lengths[slot] as number;
      if (length < ETHERNET_HEADER || length > MAX_FRAME) continue;
      offsets[count] = slot * STRIDE;
      lengths[count] = length;
      this.counters.bytesIn += length;
      count++;
    }
    this.counters.framesIn += count;
    this.counters.dropped += received - count;
    this.#batch.count = count;
    if (count > 0) this.onBatch(this.#batch);
    return received === BATCH;
  }

  protected override write(): boolean {
    const first = this.#first;
    let done: number;
    try {
      done = this.native.sendDatagrams(
        this.fd,
        this.#queue,
        this.#offsets,
        this.#lengths,
        first,
        this.#count,
      );
    } catch (error) {
      this.fail(error);
      return true;
    }
    this.#first += done;
    const { counters } = this;
    for (let index = first; index < this.#first; index++) {
      const length = this.#lengths[index] as number;
      counters.bytesOut += length;
      if (length > 0) counters.framesOut++;
      else counters.dropped++;
    }
    if (this.#first < this.#count) return false;
    this.#first = this.#count = this.#tail = 0;
    return true;
  }

  /** Moves what waits to the front when that is worth it: after half has gone. */
  #hasRoom(length: number): boolean {
    if (this.#count < MAX_FRAMES && this.#tail + length <= MAX_QUEUED) return true;
    const start = this.#first === this.#count ? this.#tail : (this.#offsets[this.#first] as number);
    if (this.#first < MAX_FRAMES / 2 && start < MAX_QUEUED / 2) return false;
    this.#queue.copyWithin(0, start, this.#tail);
    this.#tail -= start;
    for (let index = this.#first; index < this.#count; index++) {
      this.#offsets[index - this.#first] = (this.#offsets[index] as number) - start;
      this.#lengths[index - this.#first] = this.#lengths[index] as number;
    }
    this.#count -= this.#first;
    this.#first = 0;
    return this.#tail + length <= MAX_QUEUED;
  }
}
