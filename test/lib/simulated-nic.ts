/**
 * A guest's network card without a guest: the far end of a cable of datagrams, which sends one frame again and again, and
 * counts what comes. For a thread of its own; what it counts is shared, so that the other end of the way can be told.
 */
import type { HostNative } from '../../native/host-face.ts';

/** Frames of a system call. */
const BATCH = 64;
/** Slots for frames that come. Bytes; the VPN has none that are longer. */
const STRIDE = 2048;
const READABLE = 1;
/** Milliseconds without an arrival after which what is under way is lost. */
const PATIENCE = 200;

/** Places in a counter's Int32Array. */
const ARRIVED = 0;
const STOP = 1;

/** Frames that arrived somewhere, in memory that threads share. */
export class FrameCounter {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(8)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  get value(): number {
    return Atomics.load(this.#words, ARRIVED);
  }

  add(frames: number): void {
    Atomics.add(this.#words, ARRIVED, frames);
    Atomics.notify(this.#words, ARRIVED);
  }

  /** Whether who sends is to stop. */
  get stopped(): boolean {
    return Atomics.load(this.#words, STOP) !== 0;
  }

  set stopped(stop: boolean) {
    Atomics.store(this.#words, STOP, stop ? 1 : 0);
    Atomics.notify(this.#words, ARRIVED);
  }

  /** Blocks the thread until it is another than `value`. False: it was not in time. */
  wait(value: number, milliseconds: number): boolean {
    return Atomics.wait(this.#words, ARRIVED, value, milliseconds) !== 'timed-out';
  }
}

/** How many frames may be sent: no more under way than a window has, and lost ones are given up after a while. */
export class Window {
  sent = 0;
  lost = 0;
  readonly #size: number;
  readonly #counter: FrameCounter;
  #base: number;

  constructor(size: number, counter: FrameCounter) {
    this.#size = size;
    this.#counter = counter;
    this.#base = counter.value;
  }

  /** Frames that may go, `most` at most; waits for a quarter of the window. 0: nothing came for too long, or it is to stop. */
  room(most: number): number {
    for (;;) {
      const { value, stopped } = this.#counter;
      if (stopped) return 0;
      const room = this.#size - Math.max(0, this.sent - this.lost - (value - this.#base));
      if (room >= this.#size / 4) return Math.min(room, most);
      if (this.#counter.wait(value, PATIENCE) || this.#counter.value !== value) continue;
      this.lost = this.sent - (value - this.#base);
      return 0;
    }
  }
}

export class SimulatedNic {
  /** What came. */
  readonly received = new FrameCounter();
  readonly #native: HostNative;
  readonly #fd: number;
  readonly #into = new Uint8Array(BATCH * STRIDE);
  readonly #lengthsIn = new Uint32Array(BATCH);
  readonly #offsets = new Uint32Array(BATCH);
  readonly #lengths = new Uint32Array(BATCH);
  #frames = new Uint8Array(0);
  #length = 0;
  /** Called after frames were received. */
  #onReceived = () => {};

  /** Takes `fd` over: a connected socket of datagrams. */
  constructor(native: HostNative, fd: number) {
    this.#native = native;
    this.#fd = fd;
    native.watch(fd, READABLE, () => this.#receive());
  }

  /** What is sent from now on. */
  load(frame: Uint8Array): void {
    this.#length = frame.length;
    this.#frames = new Uint8Array(BATCH * frame.length);
    for (let index = 0; index < BATCH; index++) {
      this.#offsets[index] = index * frame.length;
      this.#frames.set(frame, index * frame.length);
    }
  }

  /** Sends until `counter` says stop, as fast as it counts; blocks the thread. @returns frames lost on the way */
  sendCounted(window: number, counter: FrameCounter): number {
    const flow = new Window(window, counter);
    while (!counter.stopped) flow.sent += this.#send(flow.room(BATCH));
    return flow.lost;
  }

  /** Sends as fast as it can until `counter` says stop; blocks the thread. @returns frames that the socket took */
  flood(counter: FrameCounter): number {
    let sent = 0;
    while (!counter.stopped) {
      const now = this.#send(BATCH);
      sent += now;
      // A full socket: who reads it needs a moment.
      if (now < BATCH) counter.wait(counter.value, 1);
    }
    return sent;
  }

  /** Keeps `window` frames going round, each sent again when it came back, until `stop`. */
  circulate(window: number): { stop(): void } {
    let under = 0;
    let last = this.received.value;
    const fill = () => {
      while (under < window) {
        const now = this.#send(Math.min(BATCH, window - under));
        if (now === 0) break;
        under += now;
      }
    };
    this.#onReceived = () => {
      under = Math.max(0, under - (this.received.value - last));
      last = this.received.value;
      if (window - under >= window / 4) fill();
    };
    let seen = -1;
    const timer = setInterval(() => {
      if (seen === this.received.value) under = 0;
      seen = this.received.value;
      fill();
    }, PATIENCE);
    fill();
    return {
      stop: () => {
        clearInterval(timer);
        this.#onReceived = () => {};
      },
    };
  }

  close(): void {
    this.#native.unwatch(this.#fd);
    this.#native.close(this.#fd);
  }

  #send(count: number): number {
    if (count === 0) return 0;
    // One that could not go had its length set to 0.
    this.#lengths.fill(this.#length);
    return this.#native.sendDatagrams(this.#fd, this.#frames, this.#offsets, this.#lengths, 0, count);
  }

  #receive(): void {
    let total = 0;
    for (;;) {
      const count = this.#native.receiveDatagrams(this.#fd, this.#into, STRIDE, this.#lengthsIn);
      total += count;
      if (count < BATCH) break;
    }
    if (total === 0) return;
    this.received.add(total);
    this.#onReceived();
  }
}
