/**
 * Cuts the bytes of a port into frames, without putting bulk data together: the payload of a DATA frame is handed on in
 * the pieces in which it arrives, as views into the caller's buffer. Memory: one message or log record at most.
 */
import {
  decodeCredit,
  FRAME_HEADER,
  FrameError,
  FrameType,
  MAX_CONTROL_PAYLOAD,
  MAX_DATA_PAYLOAD,
  MAX_LOG_PAYLOAD,
} from '../../guest/protocol/frames.ts';

/** Called for each frame. A type without a handler is not welcome on this port. Views are valid during the call only. */
export interface FrameHandlers {
  message?(payload: Uint8Array): void;
  data?(stream: number, piece: Uint8Array): void;
  end?(stream: number): void;
  credit?(stream: number, bytes: number): void;
  log?(payload: Uint8Array): void;
}

type Kind = keyof FrameHandlers;

/** Kind and payload bounds of each frame type. */
const KINDS: Readonly<Record<number, { kind: Kind; min: number; max: number }>> = {
  [FrameType.message]: { kind: 'message', min: 1, max: MAX_CONTROL_PAYLOAD },
  [FrameType.data]: { kind: 'data', min: 0, max: MAX_DATA_PAYLOAD },
  [FrameType.end]: { kind: 'end', min: 0, max: 0 },
  [FrameType.credit]: { kind: 'credit', min: 4, max: 4 },
  [FrameType.log]: { kind: 'log', min: 0, max: MAX_LOG_PAYLOAD },
};

export class FrameReader {
  readonly #handlers: FrameHandlers;
  readonly #header = new Uint8Array(FRAME_HEADER);
  readonly #view = new DataView(this.#header.buffer);
  /** Valid bytes of the header. */
  #have = 0;
  #kind: Kind = 'data';
  #stream = 0;
  /** Payload bytes of the current frame that have not come yet. */
  #left = 0;
  /** The payload so far, of a frame that must be whole and came in parts. */
  #gathered: Uint8Array | null = null;

  constructor(handlers: FrameHandlers) {
    this.#handlers = handlers;
  }

  /** Takes the next bytes. @throws {FrameError} at the first that cannot be; what a handler throws passes through. */
  push(chunk: Uint8Array): void {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#have < FRAME_HEADER) {
        offset += this.#takeHeader(chunk, offset);
        if (this.#have === FRAME_HEADER) this.#begin();
      } else {
        const piece = chunk.subarray(offset, Math.min(offset + this.#left, chunk.length));
        offset += piece.length;
        this.#takePayload(piece);
      }
    }
  }

  /** True when the bytes so far end inside a frame. */
  get midFrame(): boolean {
    return this.#have > 0;
  }

  #takeHeader(chunk: Uint8Array, offset: number): number {
    const take = Math.min(FRAME_HEADER - this.#have, chunk.length - offset);
    for (let index = 0; index < take; index++) {
      this.#header[this.#have + index] = chunk[offset + index] as number;
    }
    this.#have += take;
    return take;
  }

  #begin(): void {
    const length = this.#view.getUint32(0, true) - (FRAME_HEADER - 4);
    const type = this.#header[4] as number;
    const row = KINDS[type];
    if (!row || !this.#handlers[row.kind]) throw new FrameError(`frame of type ${type} does not belong here`);
    if (length < row.min || length > row.max) {
      throw new FrameError(`${row.kind} frame of ${length} bytes, outside ${row.min}…${row.max}`);
    }
    this.#kind = row.kind;
    this.#stream = this.#view.getUint32(5, true);
    this.#left = length;
    if (length === 0) this.#finish(new Uint8Array(0));
  }

  #takePayload(piece: Uint8Array): void {
    const whole = this.#gathered === null && piece.length === this.#left;
    const total = this.#left;
    this.#left -= piece.length;
    if (this.#kind === 'data') {
      if (this.#left === 0) this.#have = 0;
      this.#handlers.data?.(this.#stream, piece);
    } else if (whole) {
      this.#finish(piece);
    } else {
      this.#gathered ??= new Uint8Array(total);
      this.#gathered.set(piece, this.#gathered.length - total);
      if (this.#left === 0) this.#finish(this.#gathered);
    }
  }

  #finish(payload: Uint8Array): void {
    // Before the handler: one that throws must not leave a frame half open.
    this.#have = 0;
    this.#gathered = null;
    const handlers = this.#handlers;
    if (this.#kind === 'message') handlers.message?.(payload);
    else if (this.#kind === 'log') handlers.log?.(payload);
    else if (this.#kind === 'end') handlers.end?.(this.#stream);
    else if (this.#kind === 'credit') handlers.credit?.(this.#stream, decodeCredit(payload));
  }
}
