/**
 * What NICs see, in a file that Wireshark reads (pcapng). Frames are copied into memory and written beside the thread that
 * moves them: a slow disk costs frames of the file, which are counted in it, and a full one ends the capture. The network
 * never waits for either.
 */
import { close, constants, fchmodSync, fstatSync, ftruncate, ftruncateSync, openSync, write } from 'node:fs';
import { promisify } from 'node:util';
import { isDiskFull, toError, YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import {
  MAX_SMALL_BLOCK,
  packetSize,
  writeInterface,
  writePacket,
  writeSection,
  writeStatistics,
} from './pcap-blocks.ts';

export interface Capture {
  /** Copies a frame that passes a NIC; `in`: its guest gets it. Never throws, and does nothing after the end. */
  frame(nic: string, bytes: Uint8Array, offset: number, length: number, direction: 'in' | 'out'): void;
  /** What ended it before it was closed (YAVM_E_NET_CAPTURE), which was logged; null: it goes on, or ended in order. */
  readonly failure: YavmError | null;
  /** Frames that are not in the file. */
  readonly dropped: number;
  /** Writes what is left, and how many are missing. Never rejects. */
  close(): Promise<void>;
}

export interface CaptureParts {
  logger: Logger;
  /** Bytes of each of two buffers, of which one is filled while the other is written. */
  buffer?: number;
  /** Microseconds since the epoch. */
  now?: () => number;
  /** As fs.write, promised; replaced by tests. */
  write?: (
    fd: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ) => Promise<{ bytesWritten: number }>;
}

/** 2 MiB: a second of a busy VPN, or 30 frames of the largest kind. */
const BUFFER = 2 * 1024 ** 2;
/** So much is written at once where there is so much. Bytes. */
const WORTH_WRITING = 256 * 1024;
/** Frames are in the file after this time at the latest. Milliseconds. */
const DELAY = 200;
/** Interfaces of one file; a VM has two. */
const MAX_NICS = 16;

/**
 * Makes the file, readable for its owner alone. One that is there is replaced; a link is not followed.
 * @throws {YavmError} YAVM_E_NET_CAPTURE
 */
export function openCapture(file: string, parts: CaptureParts): Capture {
  const { now = wallClock, buffer = BUFFER, write = promisify(writeOf) } = parts;
  return new FileCapture(file, openFile(file), { ...parts, now, buffer, write });
}

function openFile(file: string): number {
  const { O_WRONLY, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  let fd: number;
  try {
    // Not truncated before it is known what it is; a pipe without a reader must not keep the thread.
    fd = openSync(file, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  } catch (cause) {
    throw captureError(file, cause);
  }
  try {
    const { nlink, uid } = fstatSync(fd);
    if (!fstatSync(fd).isFile()) throw new Error('it is no file');
    if (uid !== process.getuid?.()) throw new Error("it is another user's file");
    if (nlink > 1) throw new Error('it has other names');
    fchmodSync(fd, 0o600);
    ftruncateSync(fd, 0);
    return fd;
  } catch (cause) {
    close(fd);
    throw captureError(file, cause);
  }
}

function captureError(file: string, cause: unknown): YavmError {
  return new YavmError('YAVM_E_NET_CAPTURE', `${file}: the network cannot be captured there`, {
    cause: toError(cause),
    hint: isDiskFull(cause)
      ? 'The disk is full. What was captured so far is in the file.'
      : 'Name a file of your own, in a folder where you may write.',
  });
}

interface Half {
  bytes: Uint8Array;
  view: DataView;
  /** Bytes that are filled. */
  used: number;
}

interface Nic {
  number: number;
  received: number;
  dropped: number;
}

class FileCapture implements Capture {
  failure: YavmError | null = null;
  readonly #file: string;
  readonly #fd: number;
  readonly #parts: Required<CaptureParts>;
  readonly #start: number;
  readonly #nics = new Map<string, Nic>();
  /** Reused for each frame. */
  readonly #facts = { nic: 0, time: 0, direction: 'in' as 'in' | 'out' };
  readonly #frame = { bytes: new Uint8Array(0) as Uint8Array, offset: 0, length: 0 };
  #filling: Half;
  #spare: Half;
  /** Of what was written completely. Bytes. */
  #written = 0;
  #writing: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closing: Promise<void> | null = null;

  constructor(file: string, fd: number, parts: Required<CaptureParts>) {
    this.#file = file;
    this.#fd = fd;
    this.#parts = parts;
    this.#start = parts.now();
    this.#filling = newHalf(parts.buffer);
    this.#spare = newHalf(parts.buffer);
    this.#filling.used = writeSection(this.#filling.view, 0, 'ya-vm');
    this.#later();
  }

  get dropped(): number {
    let sum = 0;
    for (const { dropped } of this.#nics.values()) sum += dropped;
    return sum;
  }

  frame(name: string, bytes: Uint8Array, offset: number, length: number, direction: 'in' | 'out'): void {
    if (this.failure !== null || this.#closing !== null) return;
    const nic = this.#nics.get(name) ?? this.#announce(name);
    if (nic === null) return;
    nic.received++;
    if (!this.#hasRoom(packetSize(length))) {
      nic.dropped++;
      return;
    }
    const facts = this.#facts;
    facts.nic = nic.number;
    facts.time = this.#parts.now();
    facts.direction = direction;
    const frame = this.#frame;
    frame.bytes = bytes;
    frame.offset = offset;
    frame.length = length;
    const half = this.#filling;
    half.used = writePacket(half.bytes, half.view, half.used, facts, frame);
    if (half.used >= WORTH_WRITING) this.#flush();
    else this.#later();
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  // ---------------------------------------------------------------- memory

  /** A NIC that was not seen before; null: there is no room for it. */
  #announce(name: string): Nic | null {
    if (this.#nics.size >= MAX_NICS || !this.#hasRoom(MAX_SMALL_BLOCK)) return null;
    const nic = { number: this.#nics.size, received: 0, dropped: 0 };
    this.#nics.set(name, nic);
    const half = this.#filling;
    half.used = writeInterface(half.view, half.used, name);
    return nic;
  }

  #hasRoom(size: number): boolean {
    if (this.#filling.used + size <= this.#filling.bytes.length) return true;
    this.#flush();
    return this.#filling.used + size <= this.#filling.bytes.length;
  }

  // ---------------------------------------------------------------- file

  #later(): void {
    if (this.failure !== null) return;
    this.#timer ??= setTimeout(() => this.#flush(), DELAY).unref();
  }

  /** Writes what is filled, unless the last write is still under way. */
  #flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#writing !== null || this.#filling.used === 0 || this.failure !== null) return;
    const half = this.#filling;
    this.#filling = this.#spare;
    this.#spare = half;
    this.#writing = this.#write(half).finally(() => {
      half.used = 0;
      this.#writing = null;
      if (this.#filling.used >= WORTH_WRITING) this.#flush();
      else if (this.#filling.used > 0) this.#later();
    });
  }

  async #write({ bytes, used }: Half): Promise<void> {
    try {
      for (let at = 0; at < used; ) {
        at += (await this.#parts.write(this.#fd, bytes, at, used - at)).bytesWritten;
      }
      this.#written += used;
    } catch (error) {
      await this.#fail(error);
    }
  }

  /** Ends it with what was written completely: half a block would make the file unreadable for some. */
  async #fail(error: unknown): Promise<void> {
    this.failure = captureError(this.#file, error);
    this.#parts.logger.error({ err: this.failure }, 'the capture has ended; the network goes on');
    await promisify(ftruncate)(this.#fd, this.#written).catch(() => {});
    await this.#closeFile();
  }

  async #end(): Promise<void> {
    this.#flush();
    await this.#writing;
    if (this.failure !== null) return;
    // What came during the last write; then it is empty.
    this.#flush();
    await this.#writing;
    const half = this.#filling;
    for (const { number: nic, received, dropped } of this.#nics.values()) {
      const facts = { nic, start: this.#start, end: this.#parts.now(), received, dropped };
      half.used = writeStatistics(half.view, half.used, facts);
    }
    this.#flush();
    await this.#writing;
    if (this.failure === null) await this.#closeFile();
  }

  async #closeFile(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    try {
      await promisify(close)(this.#fd);
    } catch (error) {
      // Where a full disk is told of at the end only (NFS).
      this.failure ??= captureError(this.#file, error);
      this.#parts.logger.error({ err: this.failure }, 'the capture may not be complete');
    }
  }
}

function newHalf(size: number): Half {
  const bytes = new Uint8Array(Math.max(size, MAX_NICS * MAX_SMALL_BLOCK));
  return { bytes, view: new DataView(bytes.buffer), used: 0 };
}

function wallClock(): number {
  return Math.floor((performance.timeOrigin + performance.now()) * 1000);
}

function writeOf(
  fd: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
  done: (error: Error | null, result: { bytesWritten: number }) => void,
): void {
  write(fd, bytes, offset, length, null, (error, bytesWritten) => done(error, { bytesWritten }));
}
