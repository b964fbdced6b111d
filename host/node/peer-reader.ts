/** What one connection sends, packet by packet: the next one waits until the last one's destination took it. */
import type { Socket } from 'node:net';
import { PacketCutter } from '../gsb/packet-cutter.ts';

export interface ReaderParts {
  socket: Socket;
  /** The connection was closed: what has come is not looked at any more. */
  isClosed(): boolean;
  /** Deals with the packet that the cutter has found; where that has to wait, its end. @throws whatever ends the connection */
  take(packet: PacketCutter): Promise<void> | undefined;
  /** All that was there has been dealt with, or has to wait. */
  flush(): void;
  /** Nothing more will come: it has ended, or because of this error. */
  ended(error?: unknown): void;
}

export class PeerReader {
  readonly #parts: ReaderParts;
  readonly #cutter = new PacketCutter();

  /** Begins at once. */
  constructor(parts: ReaderParts) {
    this.#parts = parts;
    const { socket } = parts;
    socket.on('data', (bytes) => {
      this.#cutter.feed(bytes);
      this.#read();
    });
    socket.once('end', () => this.#parts.ended());
  }

  /** Reads until something has to wait; the socket is not read then, so nothing else comes. */
  #read(): void {
    const { socket, isClosed, take, flush, ended } = this.#parts;
    let wait: Promise<void> | undefined;
    try {
      while (wait === undefined && !isClosed() && this.#cutter.next()) wait = take(this.#cutter);
      flush();
    } catch (error) {
      flush();
      ended(error);
      return;
    }
    if (wait === undefined) return;
    socket.pause();
    void wait.then(() => {
      if (isClosed()) return;
      // It flows again first: the rest may have to wait, too.
      socket.resume();
      this.#read();
    });
  }
}
