/** One connection to the bus: a socket that carries packets, until it ends. It is always read: exe-unit.md 1.7. */
import { connect, type Socket } from 'node:net';
import { withDeadline } from '../lib/deadline.ts';
import { type Deferred, deferred } from '../lib/deferred.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { formatGsbUrl } from './address.ts';
import { FrameBatch } from './frame-batch.ts';
import { decodePacket, encodePieces, type Packet } from './packet.ts';
import { PacketCutter } from './packet-cutter.ts';
import type { GsbAddress } from './types.ts';

/** Bytes that wait for a bus that does not read, before the connection is given up. */
const MAX_QUEUED = 512 * 1024 * 1024;
/** Milliseconds for the last bytes at an orderly end. */
const END_WAIT = 500;

/** Bytes that one read brings at most; the memory for them is used again and again. */
const READ_SIZE = 128 * 1024;

/** What is done with what a connection brings. */
export interface LinkReceiver {
  /** A packet, not decoded; true: it was dealt with. The bytes are as they are until it returns. */
  frame(bytes: Uint8Array, start: number, end: number): boolean;
  packet(packet: Packet): void;
  /** All that one read brought was handed over. */
  flush(): void;
}

/** A connected socket, whose bytes go to whoever asks for them. */
export interface OpenSocket {
  socket: Socket;
  /** Reads nothing before; `read` gets memory that is used again after it returns. */
  onRead(read: (bytes: Uint8Array, length: number) => void): void;
}

/** @throws {YavmError} YAVM_E_GSB_CLOSED when nobody listens there, or the deadline passes; the signal's reason */
export async function openSocket(
  address: GsbAddress,
  deadline: number,
  signal: AbortSignal,
): Promise<OpenSocket> {
  let read: ((bytes: Uint8Array, length: number) => void) | undefined;
  /** What came before anybody asked: one read, after which the socket is not read. */
  let early: Uint8Array | undefined;
  const callback = (length: number, bytes: Uint8Array): boolean => {
    if (read === undefined) early = Uint8Array.from(bytes.subarray(0, length));
    else read(bytes, length);
    return read !== undefined;
  };
  const where = address.kind === 'unix' ? { path: address.path } : address;
  const socket = connect({ ...where, onread: { buffer: Buffer.allocUnsafeSlow(READ_SIZE), callback } });
  const connected = new Promise<void>((resolve, reject) =>
    socket.once('connect', resolve).once('error', reject),
  );
  const what = `the bus at ${formatGsbUrl(address)}`;
  try {
    await withDeadline(connected, deadline, what, { signal });
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    throw new YavmError('YAVM_E_GSB_CLOSED', `cannot connect to ${what}`, { cause: error });
  }
  // Requests and answers are small and each waits for the other.
  if (address.kind === 'tcp') socket.setNoDelay(true).setKeepAlive(true);
  return {
    socket,
    onRead: (reader) => {
      read = reader;
      if (early !== undefined) reader(early, early.length);
      socket.resume();
    },
  };
}

export class Link {
  /** Frames that go out with the next {@link FrameBatch.flush}, before whatever is sent then. */
  readonly frames: FrameBatch;
  readonly #source: OpenSocket;
  readonly #socket: Socket;
  readonly #cutter: PacketCutter;
  readonly #ended = deferred<YavmError>();
  #error: YavmError | undefined;
  #drained: Deferred<void> | undefined;
  #over = false;

  /** @param maxPacket Bytes of a packet that is accepted; default MAX_PACKET. */
  constructor(source: OpenSocket, maxPacket?: number) {
    const { socket } = source;
    this.#source = source;
    this.#socket = socket;
    this.frames = new FrameBatch(socket);
    this.#cutter = new PacketCutter({ most: maxPacket, volatile: true });
    socket.on('error', (error) => this.fail(closedError(error)));
    socket.on('drain', () => this.#release());
    socket.on('close', () => this.#end());
  }

  /** Hands on every packet until the connection ends; resolves with why, also when the bus just closed. */
  run(receiver: LinkReceiver): Promise<YavmError> {
    this.#source.onRead((bytes, length) => this.#receive(bytes, length, receiver));
    return this.#ended.promise;
  }

  /** Bytes that the socket has not taken. */
  get queued(): number {
    return this.#socket.writableLength + this.frames.used;
  }

  get full(): boolean {
    return !this.#over && this.#socket.writableNeedDrain;
  }

  /**
   * Writes at once or queues; nothing happens when the connection has ended. Large data are not copied: they must stay
   * as they are.
   */
  send(packet: Packet): void {
    if (this.#over || this.#socket.destroyed || this.#socket.writableEnded) return;
    if (this.queued > MAX_QUEUED) this.fail(closedError(new Error('it does not read')));
    else this.#write(encodePieces(packet));
  }

  #write(pieces: Uint8Array[]): void {
    this.frames.flushAll();
    this.together(() => {
      for (const piece of pieces) this.#socket.write(piece);
    });
  }

  /** Sends what `work` sends in one write. */
  together(work: () => void): void {
    this.#socket.cork();
    try {
      work();
    } finally {
      this.#socket.uncork();
    }
  }

  /** Waits until the socket takes more; ends with the connection, too. */
  async room(): Promise<void> {
    while (this.full) {
      this.#drained ??= deferred();
      await this.#drained.promise;
    }
  }

  /** Sends what is queued, closes, and waits for it half a second at most. */
  async end(): Promise<void> {
    if (this.#over) return;
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    this.frames.flushAll();
    this.#socket.end();
    await withDeadline(closed, END_WAIT, "the bus's end").catch(() => {});
    this.#socket.destroy();
  }

  /** Ends the connection because of `error`. */
  fail(error: YavmError): void {
    this.#error ??= error;
    this.#socket.destroy();
  }

  #receive(bytes: Uint8Array, length: number, receiver: LinkReceiver): void {
    const cutter = this.#cutter;
    try {
      cutter.feed(bytes, length);
      while (!this.#isOver && cutter.next()) {
        if (!receiver.frame(cutter.bytes, cutter.start, cutter.end)) {
          receiver.packet(decodePacket(cutter.keep()));
        }
      }
    } catch (error) {
      this.fail(error instanceof YavmError ? error : closedError(toError(error)));
    }
    receiver.flush();
  }

  get #isOver(): boolean {
    return this.#over || this.#error !== undefined;
  }

  #release(): void {
    const drained = this.#drained;
    this.#drained = undefined;
    drained?.resolve();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#release();
    this.#ended.resolve(this.#error ?? closedError());
  }
}

/** The connection is gone, or went. */
export function closedError(cause?: unknown): YavmError {
  return new YavmError('YAVM_E_GSB_CLOSED', 'the connection to the bus was lost', { cause });
}
