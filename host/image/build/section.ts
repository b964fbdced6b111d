/** Bytes that can be read at any place: a file, or a part of one. */
import { fstatSync, readSync } from 'node:fs';
import { ImageArchiveError } from '../errors.ts';

export interface Section {
  /** For messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Fills `target` with the bytes from `at` on. Blocking: what is read lies in the page cache mostly, and a wait for
   * the thread pool costs more than the read of a small file.
   * @throws {ImageArchiveError} there are not as many.
   */
  read(target: Uint8Array, at: number): void;
}

/** An open file from `start` on; the descriptor stays the caller's. */
export function fileSection(fd: number, name: string, start = 0, size?: number): Section {
  const length = size ?? fstatSync(fd).size - start;
  return {
    name,
    size: length,
    read(target, at) {
      if (at < 0 || at + target.length > length) throw ends(name, length);
      let done = 0;
      while (done < target.length) {
        const count = readSync(fd, target, done, target.length - done, start + at + done);
        if (count === 0) throw ends(name, at + done);
        done += count;
      }
    },
  };
}

/** A part of another section. @throws {ImageArchiveError} it lies not wholly in it */
export function partOf(whole: Section, name: string, start: number, size: number): Section {
  if (start + size > whole.size) throw ends(whole.name, whole.size);
  return {
    name,
    size,
    read(target, at) {
      if (at < 0 || at + target.length > size) throw ends(name, size);
      whole.read(target, start + at);
    },
  };
}

/** Bytes in memory. */
export function bytesSection(bytes: Uint8Array, name: string): Section {
  return {
    name,
    size: bytes.length,
    read(target, at) {
      if (at < 0 || at + target.length > bytes.length) throw ends(name, bytes.length);
      target.set(bytes.subarray(at, at + target.length));
    },
  };
}

export function readPart(section: Section, at: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  section.read(bytes, at);
  return bytes;
}

/** Bytes handed on at a time: large enough that the call does not count, small enough that an abort is quick. */
const PIECE = 1024 * 1024;

/** All of it, in order; each piece is valid until the next is asked for. */
export async function* piecesOf(section: Section, signal: AbortSignal): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.min(PIECE, section.size));
  for (let at = 0; at < section.size; ) {
    const piece = buffer.subarray(0, Math.min(buffer.length, section.size - at));
    section.read(piece, at);
    at += piece.length;
    yield piece;
    // Reading does not wait: signals and timers get their turn here.
    await nextTurn();
    signal.throwIfAborted();
  }
}

/** Lets everything else that is due happen. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function ends(name: string, at: number): ImageArchiveError {
  return new ImageArchiveError(`${name}: ends too early, at byte ${at}`, {
    hint: 'Cut off, or changed while it was read? Save or copy it again.',
  });
}
