/**
 * Frames: the unit on every virtio-serial port and on attach.sock.
 *
 * ```
 * u32 LE  length of what follows the length field: 5 + payload
 * u8      type
 * u32 LE  stream (0 on control and log)
 * bytes   payload
 * ```
 *
 * Both sides bound the payload, so a hostile peer can neither make us allocate nor wait for a huge frame.
 */

/** What a frame carries. One number space for all ports, so that one socket can carry them together. */
export const FrameType = {
  /** A CBOR message (guest/protocol/messages.ts); stream 0. */
  message: 1,
  /** Bytes of a stream. */
  data: 2,
  /** No more bytes will come on this stream; no payload. */
  end: 3,
  /** Payload: u32 LE, how many more bytes the sender of this frame will take on the stream. */
  credit: 4,
  /** A log record of the guest: one JSON line, pino-shaped; stream 0. */
  log: 5,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

/** Bytes before the payload: length, type, stream. */
export const FRAME_HEADER = 9;
/** Largest payload on the control port, bytes. */
export const MAX_CONTROL_PAYLOAD = 1024 * 1024;
/** Largest payload on the data port, bytes. */
export const MAX_DATA_PAYLOAD = 256 * 1024;
/** Largest payload on the log port, bytes. */
export const MAX_LOG_PAYLOAD = 64 * 1024;
/**
 * What the receiver of a stream is ready to hold, bytes. A stream from the guest starts with this credit, because the host
 * is ready before it asks for it. A stream to the guest starts with none: ports have no order between them, so bytes on the
 * data port could overtake the request that names their stream. The guest's first credit says that somebody is there.
 */
export const STREAM_WINDOW = 1024 * 1024;

export interface Frame {
  type: number;
  stream: number;
  payload: Uint8Array;
}

/** A byte sequence that is no frame of ours. The stream it came from cannot be resynchronised. */
export class FrameError extends Error {
  override name = 'FrameError';
}

/** Encodes one frame. */
export function encodeFrame(type: number, stream: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER + payload.byteLength);
  const view = new DataView(frame.buffer);
  view.setUint32(0, payload.byteLength + FRAME_HEADER - 4, true);
  frame[4] = type;
  view.setUint32(5, stream, true);
  frame.set(payload, FRAME_HEADER);
  return frame;
}

/** Encodes a credit frame for `bytes` more bytes on `stream`. */
export function encodeCredit(stream: number, bytes: number): Uint8Array {
  const payload = new Uint8Array(4);
  new DataView(payload.buffer).setUint32(0, bytes, true);
  return encodeFrame(FrameType.credit, stream, payload);
}

/** Reads the payload of a credit frame. @throws {FrameError} when it is not 4 bytes long. */
export function decodeCredit(payload: Uint8Array): number {
  if (payload.byteLength !== 4) throw new FrameError(`credit frame of ${payload.byteLength} bytes, not 4`);
  return new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0, true);
}

/**
 * Cuts a byte stream into frames. Memory is bounded by one frame of `maxPayload` plus the chunk being pushed;
 * a frame that lies whole in a chunk is a view into it, not a copy.
 */
export class FrameDecoder {
  readonly #maxPayload: number;
  readonly #onFrame: (frame: Frame) => void;
  /** The incomplete frame, header included; `#have` bytes of it are valid. */
  #partial: Uint8Array = new Uint8Array(FRAME_HEADER);
  #have = 0;
  /** Whole length of the partial frame, once its header is complete; else 0. */
  #want = 0;

  constructor(maxPayload: number, onFrame: (frame: Frame) => void) {
    this.#maxPayload = maxPayload;
    this.#onFrame = onFrame;
  }

  /** Feeds bytes; calls back for each frame that they complete. @throws {FrameError} at the first impossible length. */
  push(chunk: Uint8Array): void {
    let offset = 0;
    if (this.#have > 0) offset = this.#fill(chunk);
    while (this.#have === 0 && offset < chunk.byteLength) {
      const left = chunk.byteLength - offset;
      const size = left >= FRAME_HEADER ? this.#sizeAt(chunk, offset) : Number.POSITIVE_INFINITY;
      if (size > left) {
        this.#begin(chunk.subarray(offset), size);
        return;
      }
      this.#emit(chunk.subarray(offset, offset + size));
      offset += size;
    }
  }

  /** True when the bytes so far end inside a frame. */
  get midFrame(): boolean {
    return this.#have > 0;
  }

  /** Continues the partial frame from `chunk`; returns how many bytes it took. */
  #fill(chunk: Uint8Array): number {
    let offset = 0;
    while (offset < chunk.byteLength && this.#have > 0) {
      const target = this.#want || FRAME_HEADER;
      const take = Math.min(target - this.#have, chunk.byteLength - offset);
      this.#partial.set(chunk.subarray(offset, offset + take), this.#have);
      this.#have += take;
      offset += take;
      if (this.#have < target) break;
      if (this.#want === 0) this.#grow(this.#sizeAt(this.#partial, 0));
      if (this.#have === this.#want) this.#finish();
    }
    return offset;
  }

  /** Stores the head of a frame whose rest has not come yet; `size` is infinite while the header is incomplete. */
  #begin(head: Uint8Array, size: number): void {
    this.#want = Number.isFinite(size) ? size : 0;
    this.#partial = new Uint8Array(this.#want || FRAME_HEADER);
    this.#partial.set(head);
    this.#have = head.byteLength;
  }

  #grow(size: number): void {
    const frame = new Uint8Array(size);
    frame.set(this.#partial.subarray(0, this.#have));
    this.#partial = frame;
    this.#want = size;
  }

  #finish(): void {
    const frame = this.#partial;
    this.#have = 0;
    this.#want = 0;
    this.#partial = new Uint8Array(FRAME_HEADER);
    this.#emit(frame);
  }

  #sizeAt(bytes: Uint8Array, offset: number): number {
    const length = new DataView(bytes.buffer, bytes.byteOffset + offset, 4).getUint32(0, true);
    if (length < FRAME_HEADER - 4 || length > this.#maxPayload + FRAME_HEADER - 4) {
      throw new FrameError(`frame length ${length} is outside 5…${this.#maxPayload + FRAME_HEADER - 4}`);
    }
    return length + 4;
  }

  #emit(frame: Uint8Array): void {
    this.#onFrame({
      type: frame[4] as number,
      stream: new DataView(frame.buffer, frame.byteOffset + 5, 4).getUint32(0, true),
      payload: frame.subarray(FRAME_HEADER),
    });
  }
}
