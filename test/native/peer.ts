/** The other end of a channel: frames in and out of a socket, read and written by JavaScript. */
import { encodeCredit, encodeFrame, FrameDecoder, FrameType } from '../../guest/protocol/frames.ts';
import type { ChannelOptions, Native } from '../../native/face.ts';

/** Largest payload in the cases, bytes: the data port's. */
export const MAX_PAYLOAD = 256 * 1024;

export interface Received {
  type: number;
  stream: number;
  size: number;
}

export class Peer {
  readonly #native: Native;
  readonly #decoder: FrameDecoder;
  readonly #buffer = new Uint8Array(256 * 1024);
  #fd: number;
  #queue: Uint8Array[] = [];
  #reading = true;
  /** Frames so far, payloads left out. */
  readonly frames: Received[] = [];
  /** Called for each frame. */
  onFrame: (type: number, stream: number, payload: Uint8Array) => void = () => {};
  /** The channel closed its end. */
  closed = false;

  constructor(native: Native, fd: number) {
    this.#native = native;
    this.#fd = fd;
    native.setNonBlocking(fd, true);
    this.#decoder = new FrameDecoder(MAX_PAYLOAD, ({ type, stream, payload }) => {
      this.frames.push({ type, stream, size: payload.byteLength });
      this.onFrame(type, stream, payload);
    });
    this.#watch();
  }

  /** Payload bytes of DATA frames of a stream so far. */
  received(stream: number): number {
    return this.of(FrameType.data, stream).reduce((sum, frame) => sum + frame.size, 0);
  }

  /** Frames of a type on a stream. */
  of(type: number, stream: number): Received[] {
    return this.frames.filter((frame) => frame.type === type && frame.stream === stream);
  }

  hasEnded(stream: number): boolean {
    return this.of(FrameType.end, stream).length > 0;
  }

  /** Bytes as they are, frames or not. */
  write(data: Uint8Array): void {
    this.#queue.push(data);
    this.#flush();
  }

  send(type: number, stream: number, payload: Uint8Array): void {
    this.write(encodeFrame(type, stream, payload));
  }

  credit(stream: number, size: number): void {
    this.write(encodeCredit(stream, size));
  }

  /** Stops or goes on reading. */
  read(on: boolean): void {
    this.#reading = on;
    this.#watch();
  }

  /** Nothing waits to be written. */
  get idle(): boolean {
    return this.#queue.length === 0;
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#native.unwatch(this.#fd);
    this.#native.close(this.#fd);
    this.#fd = -1;
  }

  #watch(): void {
    if (this.#fd < 0) return;
    const events = (this.#reading && !this.closed ? 1 : 0) | (this.#queue.length > 0 ? 2 : 0);
    if (events === 0) this.#native.unwatch(this.#fd);
    else this.#native.watch(this.#fd, events, (ready) => this.#ready(ready));
  }

  #ready(ready: number): void {
    if (ready & 2 && this.#queue.length > 0) this.#flush();
    if (ready & 1 && this.#reading) this.#take();
  }

  #take(): void {
    const count = this.#native.read(this.#fd, this.#buffer);
    if (count < 0) return;
    if (count === 0) {
      this.closed = true;
      this.#watch();
      return;
    }
    this.#decoder.push(this.#buffer.subarray(0, count));
  }

  #flush(): void {
    if (this.#fd < 0) return;
    try {
      while (this.#queue.length > 0) {
        const head = this.#queue[0] as Uint8Array;
        const count = this.#native.write(this.#fd, head);
        if (count < 0) break;
        if (count === head.byteLength) this.#queue.shift();
        else this.#queue[0] = head.subarray(count);
      }
    } catch {
      this.#queue = []; // the channel has closed its end: EPIPE
    }
    this.#watch();
  }
}

/** What a channel told. */
export interface Link {
  channel: number;
  peer: Peer;
  frames: { type: number; stream: number; payload: Uint8Array }[];
  ends: { reason: string; message: string }[];
  /** Closes both ends. */
  close(): void;
}

/** A channel and its peer on a socket pair. */
export function link(native: Native, options: Partial<ChannelOptions> = {}): Link {
  const [ours, theirs] = native.socketPair();
  const frames: Link['frames'] = [];
  const ends: Link['ends'] = [];
  const channel = native.channelOpen(ours, {
    maxPayload: MAX_PAYLOAD,
    maxQueued: 1024 * 1024,
    onFrame: (type, stream, payload) => frames.push({ type, stream, payload }),
    onEnd: (reason, message) => ends.push({ reason, message }),
    ...options,
  });
  const peer = new Peer(native, theirs);
  return {
    channel,
    peer,
    frames,
    ends,
    close() {
      native.channelClose(channel);
      peer.close();
    },
  };
}

/** What a source or sink told at its end. */
export interface Outcomes {
  list: { total: number; code: string | null }[];
  note: (total: number, error: { code: string } | null) => void;
}

export function outcomes(): Outcomes {
  const list: Outcomes['list'] = [];
  return { list, note: (total, error) => list.push({ total, code: error?.code ?? null }) };
}
