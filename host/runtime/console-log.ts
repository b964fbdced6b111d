/**
 * What the guest's serial console prints: kept on file within a bound (a guest can print for ever), with its end in
 * memory for error messages. QEMU writes to a pipe, so the bound is ours to keep.
 */
import { closeSync, openSync, renameSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { deferred } from '../lib/deferred.ts';
import { TextTail } from '../lib/text-tail.ts';

/** Size at which a file becomes `console.log.1` and a new one starts, bytes. */
const MAX_FILE = 1024 * 1024;
/** What is kept in memory, bytes. */
const TAIL = 16 * 1024;
const READ_BUFFER = 16 * 1024;

export class ConsoleLog {
  readonly #path: string;
  readonly #tail = new TextTail(TAIL);
  readonly #socket: Socket;
  readonly #closed = deferred<void>();
  #fd: number;
  #size = 0;

  /** `pipe`: the reading end, taken over. `path`: the log file. */
  constructor(pipe: number, path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'a', 0o600);
    const buffer = Buffer.allocUnsafeSlow(READ_BUFFER);
    const callback = (count: number) => {
      this.#take(buffer.subarray(0, count));
      return true;
    };
    this.#socket = new Socket({ fd: pipe, readable: true, writable: false, onread: { buffer, callback } });
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      this.#closeFile();
      this.#closed.resolve();
    });
    // Without this the end of the pipe is not looked at.
    this.#socket.resume();
  }

  /** Resolves when nothing more can come. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Everything that is in memory. */
  get text(): string {
    return this.#tail.text;
  }

  /** The last lines, fit to be shown. */
  lines(count: number): string[] {
    return this.#tail.lines(count);
  }

  /** Stops reading. */
  close(): void {
    this.#socket.destroy();
  }

  #take(bytes: Buffer): void {
    this.#tail.push(bytes);
    if (this.#fd < 0) return;
    try {
      if (this.#size + bytes.length > MAX_FILE) this.#rotate();
      writeSync(this.#fd, bytes);
      this.#size += bytes.length;
    } catch {
      // A full disk must not end the VM; the tail in memory still serves.
      this.#closeFile();
    }
  }

  #rotate(): void {
    closeSync(this.#fd);
    this.#fd = -1;
    renameSync(this.#path, `${this.#path}.1`);
    this.#fd = openSync(this.#path, 'a', 0o600);
    this.#size = 0;
  }

  #closeFile(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
