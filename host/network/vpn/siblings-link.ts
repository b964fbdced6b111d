/** A connection between two siblings: what is sent is collected, and written in few pieces; nothing waits without bound. */
import type { Socket } from 'node:net';
import { toError } from '../../lib/errors.ts';
import { writeU32 } from '../frame/layout.ts';
import { copyBytes } from '../nic/copy.ts';
import type { AddressKey } from './address-key.ts';
import type { SiblingDrops } from './siblings-face.ts';
import {
  encodeMessage,
  type FrameKind,
  KIND,
  MAX_WIRE_FRAME,
  type Message,
  WIRE_HEADER,
  WireDecoder,
  type WireReader,
  wireError,
} from './siblings-wire.ts';

/** Bytes of frames that wait for one sibling; what comes then is dropped. */
const MAX_QUEUED = 1024 * 1024;
/** With the messages, which are not dropped: the connection ends then. */
const MAX_QUEUED_WITH_MESSAGES = 2 * MAX_QUEUED;
/** A piece to write; it holds a frame of any length. Bytes. */
const PIECE = 128 * 1024;
/** Emptied pieces that are kept. */
const MAX_SPARE = 4;
/** Milliseconds for the last bytes at an orderly end. */
const END_WAIT = 500;

interface Piece {
  bytes: Buffer;
  used: number;
}

export class SiblingLink {
  readonly #socket: Socket;
  readonly #decoder: WireDecoder;
  readonly #drops: SiblingDrops;
  readonly #onEnd: (error: Error | null) => void;
  /** In order; the last one may have room. The socket has the first one while `#writing`. */
  readonly #pieces: Piece[] = [];
  readonly #spare: Buffer[] = [];
  #queued = 0;
  #writing = false;
  #error: Error | null = null;
  #ended = false;

  /** @param onEnd The other side is gone (null), or did what it must not. Called once, unless `close` was. */
  constructor(socket: Socket, reader: WireReader, drops: SiblingDrops, onEnd: (error: Error | null) => void) {
    this.#socket = socket;
    this.#decoder = new WireDecoder(reader);
    this.#drops = drops;
    this.#onEnd = onEnd;
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => {
      if (this.#ended) return;
      this.#ended = true;
      this.#onEnd(this.#error);
    });
  }

  /** Bytes that the socket brought. */
  receive(bytes: Uint8Array, count: number): void {
    if (this.#ended || this.#error !== null) return;
    try {
      this.#decoder.push(bytes, count);
    } catch (error) {
      this.fail(toError(error));
    }
  }

  /** Copies a frame; it goes out with the next flush. `to`: by `toIpv4` and `toIpv6` alone. False: no room, dropped. */
  frame(kind: FrameKind, to: AddressKey, bytes: Uint8Array, offset: number, length: number): boolean {
    const address = kind === KIND.toIpv4 ? 4 : kind === KIND.toIpv6 ? 16 : 0;
    const size = WIRE_HEADER + address + length;
    if (this.#ended || this.#queued + size > MAX_QUEUED || size > MAX_WIRE_FRAME) {
      this.#drops.room++;
      return false;
    }
    const piece = this.#pieceFor(size);
    const { bytes: into, used: at } = piece;
    writeU32(into, at, size - 4);
    into[at + 4] = kind;
    if (typeof to === 'string') into.write(to, at + WIRE_HEADER, 'latin1');
    else if (address > 0) writeU32(into, at + WIRE_HEADER, to);
    copyBytes(bytes, offset, length, into, at + WIRE_HEADER + address);
    piece.used += size;
    this.#queued += size;
    return true;
  }

  /** Goes out at once, behind what waits. A side that does not take its messages ends. */
  message(message: Message): void {
    if (this.#ended) return;
    const bytes = encodeMessage(message);
    if (this.#queued + bytes.length > MAX_QUEUED_WITH_MESSAGES) {
      this.fail(wireError('it does not read its messages'));
      return;
    }
    this.#pieces.push({ bytes, used: bytes.length });
    this.#queued += bytes.length;
    this.flush();
  }

  /** One write at a time: what comes meanwhile is collected. */
  flush(): void {
    const [piece] = this.#pieces;
    if (this.#writing || this.#ended || piece === undefined) return;
    this.#writing = true;
    this.#socket.write(piece.bytes.subarray(0, piece.used), this.#written);
  }

  /** Ends the connection because of `error`. */
  fail(error: Error): void {
    this.#error ??= error;
    this.#socket.destroy();
  }

  /** Ends the connection; `onEnd` is not called. What waits still goes out, if the other side takes it soon. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const piece of this.#pieces.slice(this.#writing ? 1 : 0)) {
      this.#socket.write(piece.bytes.subarray(0, piece.used));
    }
    this.#socket.end(() => this.#socket.destroy());
    this.#socket.setTimeout(END_WAIT, () => this.#socket.destroy()).unref();
  }

  readonly #written = (error?: Error | null): void => {
    if (error || this.#ended) return;
    this.#writing = false;
    const piece = this.#pieces.shift() as Piece;
    this.#queued -= piece.used;
    if (piece.bytes.length === PIECE && this.#spare.length < MAX_SPARE) this.#spare.push(piece.bytes);
    this.flush();
  };

  #pieceFor(size: number): Piece {
    const last = this.#pieces.at(-1);
    const open = last !== undefined && !(this.#writing && this.#pieces.length === 1);
    if (open && last.bytes.length - last.used >= size) return last;
    const piece = { bytes: this.#spare.pop() ?? Buffer.allocUnsafeSlow(PIECE), used: 0 };
    this.#pieces.push(piece);
    return piece;
  }
}
