/**
 * One output stream of one command: any number of bytes, the newest in memory, older ones in files as far as somebody
 * still needs them. Bytes have positions, counted from the stream's begin; readers read at positions of their own.
 *
 * Appending never waits for readers, only for the disk (and for readers when the whole disk budget is theirs:
 * {@link SpoolStore}). A file that cannot be written costs the bytes that were to go there, not the command.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { toError, YavmError } from '../lib/errors.ts';
import type { SpoolStore } from './spool-store.ts';

/** What of a stream its command's result will show. Bytes. */
export interface Keep {
  head: number;
  tail: number;
}

export interface SpoolSizes {
  /** Unit in which memory is taken. */
  block: number;
  /** In memory at most, apart from what is being written. */
  window: number;
  /** Written at once. */
  portion: number;
  /** A file's size at most, unless one portion is larger. */
  file: number;
}

const SIZES: SpoolSizes = {
  block: 64 * 1024,
  window: 1024 * 1024,
  portion: 512 * 1024,
  file: 16 * 1024 * 1024,
};

/** The first block of a stream: most commands print a few lines. */
const FIRST_BLOCK = 4096;
/** A finished output up to this size stays in memory when there is room: no file is made for it. */
const MAX_AT_REST = 16 * 1024;

interface Block {
  from: number;
  used: number;
  bytes: Buffer;
}

interface Segment {
  from: number;
  to: number;
  path: string;
  /** Null once the spool is sealed: opened for each read. */
  handle: FileHandle | null;
}

/** Somebody who reads a spool from its `position` on; what is before it they need no more. */
export interface SpoolReader {
  position: number;
}

export class Spool {
  readonly keep: Keep;
  /** The first subscriber is still to come: it will want everything. */
  unclaimed = false;
  readonly #store: SpoolStore;
  readonly #sizes: SpoolSizes;
  readonly #readers = new Set<SpoolReader>();
  #blocks: Block[] = [];
  /** Blocks' memory to be written again: new memory for each would keep the garbage collector busy. */
  #spare: Buffer[] = [];
  /** Bytes in blocks. */
  #memory = 0;
  #segments: Segment[] = [];
  #length = 0;
  #sealed = false;
  #resting = 0;
  /** Reads of a result under way: nothing is dropped. */
  #busy = 0;
  #spilling: Promise<void> | null = null;
  /** The file that grows. */
  #writing: Segment | null = null;
  #warned = false;

  constructor(store: SpoolStore, keep: Keep) {
    this.#store = store;
    this.keep = keep;
    this.#sizes = { ...SIZES, ...store.sizes };
  }

  /** Bytes appended so far. */
  get length(): number {
    return this.#length;
  }

  get sealed(): boolean {
    return this.#sealed;
  }

  // ---------------------------------------------------------------- writing

  /** Copies `bytes`, unless the spool is sealed. The promise, if any, resolves when there is room for more. */
  append(bytes: Uint8Array): void | Promise<void> {
    if (this.#sealed) return;
    let rest = bytes;
    while (rest.length > 0) {
      const block = this.#openBlock(rest.length);
      const part = rest.subarray(0, block.bytes.length - block.used);
      block.bytes.set(part, block.used);
      block.used += part.length;
      this.#length += part.length;
      this.#memory += part.length;
      rest = rest.subarray(part.length);
    }
    if (this.#memory <= this.#sizes.window) return;
    const spilled = this.#spill();
    if (this.#memory > this.#sizes.window + this.#sizes.portion) return spilled;
  }

  /** Nothing more comes: what is in memory goes to rest there when it is short, else to the disk. */
  async seal(): Promise<void> {
    if (this.#sealed) return;
    this.#sealed = true;
    await this.#spilling;
    if (this.#segments.length === 0 && this.#length <= MAX_AT_REST && this.#store.rest(this.#length)) {
      this.#resting = this.#length;
      this.#blocks = this.#blocks.map(({ from, used, bytes }) => ({
        from,
        used,
        bytes: Buffer.from(bytes.subarray(0, used)),
      }));
    } else {
      await this.#spill();
    }
    this.trim();
    await this.#closeHandles();
  }

  // ---------------------------------------------------------------- reading

  /** Holds what is at and after `reader.position` until it moves on or leaves. */
  attach(position: number): SpoolReader {
    const reader = { position };
    this.#readers.add(reader);
    return reader;
  }

  move(reader: SpoolReader, position: number): void {
    reader.position = position;
    this.#store.moved();
  }

  detach(reader: SpoolReader): void {
    this.#readers.delete(reader);
    this.#store.moved();
  }

  /** The first position from `position` on whose byte is there; the length when none is. */
  next(position: number): number {
    const segment = this.#segments.find(({ to }) => to > position);
    if (segment) return Math.max(position, segment.from);
    const block = this.#blocks[0];
    return block ? Math.min(Math.max(position, block.from), this.#length) : this.#length;
  }

  /**
   * Bytes from `position` on, at least one and at most `limit`; `position` must be one that {@link next} gave. To be
   * used before the next await: their memory is written again. `scratch`: where bytes from a file may go.
   * @throws {YavmError} YAVM_E_SPOOL
   */
  read(position: number, limit: number, scratch?: Buffer): Uint8Array | Promise<Uint8Array> {
    const segment = this.#segments.find(({ from, to }) => from <= position && to > position);
    if (segment) {
      const length = Math.min(limit, segment.to - position, scratch?.length ?? limit);
      return this.#readFile(segment, position, length, scratch ?? Buffer.allocUnsafe(length));
    }
    const block = this.#blocks.find(({ from, used }) => from <= position && from + used > position);
    if (!block) throw new YavmError('YAVM_E_SPOOL', `output at ${position} is not there any more`);
    const at = position - block.from;
    return block.bytes.subarray(at, Math.min(block.used, at + limit));
  }

  /** The bytes of [from, to) that are there, one after the other; fewer than asked where some were dropped. */
  async collect(from: number, to: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(to - from);
    let filled = 0;
    this.#busy++;
    try {
      for (let position = this.next(from); position < to; position = this.next(position)) {
        const part = this.read(position, to - position, bytes.subarray(filled));
        const read = part instanceof Promise ? await part : part;
        // From a file it is there already.
        if (read.buffer !== bytes.buffer || read.byteOffset !== bytes.byteOffset + filled)
          bytes.set(read, filled);
        filled += read.length;
        position += read.length;
      }
    } finally {
      this.#busy--;
    }
    return bytes.subarray(0, filled);
  }

  // ---------------------------------------------------------------- making room (the store's side)

  /** A subscriber has still to read what is in files beyond what the result needs. */
  get held(): boolean {
    if (this.#readers.size === 0) return false;
    return this.#segments.some(({ to }) => to > this.keep.head && this.#awaited(to));
  }

  /** Removes files that nobody needs. */
  trim(): void {
    if (this.#busy === 0) this.#drop(({ from, to }) => !this.#needed(from, to));
  }

  /** Removes the oldest file that only a first subscriber to come would read. False: there is none. */
  dropBacklog(): boolean {
    return this.#dropOne(({ from, to }) => !this.#shown(from, to) && !this.#awaited(to));
  }

  /** Removes the oldest file that nobody is reading, shown by a result or not. False: there is none. */
  dropAny(): boolean {
    return this.#dropOne(({ to }) => !this.#awaited(to));
  }

  /** Gives everything up. */
  clear(): void {
    this.#sealed = true;
    this.#blocks = [];
    this.#memory = 0;
    this.#readers.clear();
    this.#store.woke(this.#resting);
    this.#resting = 0;
    this.#drop(() => true);
  }

  /** Lets go of the files; the store removes them. */
  async close(): Promise<void> {
    this.#sealed = true;
    await this.#spilling;
    await this.#closeHandles();
  }

  // ---------------------------------------------------------------- inside

  #openBlock(wanted: number): Block {
    const last = this.#blocks.at(-1);
    if (last && last.used < last.bytes.length) return last;
    const first = this.#length === 0 && wanted <= FIRST_BLOCK;
    const size = first ? Math.min(FIRST_BLOCK, this.#sizes.block) : this.#sizes.block;
    const spare = this.#spare.pop();
    const bytes = spare && spare.length >= size ? spare : Buffer.allocUnsafeSlow(size);
    const block = { from: this.#length, used: 0, bytes };
    this.#blocks.push(block);
    return block;
  }

  #shown(from: number, to: number): boolean {
    return from < this.keep.head || (this.keep.tail > 0 && to > this.#length - this.keep.tail);
  }

  #awaited(to: number): boolean {
    for (const reader of this.#readers) if (reader.position < to) return true;
    return false;
  }

  #needed(from: number, to: number): boolean {
    return this.unclaimed || this.#shown(from, to) || this.#awaited(to);
  }

  /** Moves the oldest blocks out of memory until the window is kept, or, once sealed, all of them. */
  #spill(): Promise<void> {
    this.#spilling ??= this.#spillAll().finally(() => {
      this.#spilling = null;
    });
    return this.#spilling;
  }

  async #spillAll(): Promise<void> {
    while (this.#blocks.length > 0 && (this.#sealed || this.#memory > this.#sizes.window)) {
      const group = this.#oldest();
      if (group.length === 0) return;
      const [first, last] = [group[0] as Block, group.at(-1) as Block];
      const end = last.from + last.used;
      if (this.#needed(first.from, end)) {
        await this.#write(group, first.from, end).catch((error) => this.#complain(error));
      }
      // Cleared in the meantime?
      if (this.#blocks[0] !== first) return;
      this.#blocks.splice(0, group.length);
      this.#spare = this.#sealed ? [] : group.map(({ bytes }) => bytes);
      this.#memory -= end - first.from;
    }
  }

  /** The oldest blocks, up to a portion; the one that is being filled only once sealed. */
  #oldest(): Block[] {
    const ready = this.#sealed ? this.#blocks.length : this.#blocks.length - 1;
    const count = Math.max(1, Math.floor(this.#sizes.portion / this.#sizes.block));
    return this.#blocks.slice(0, Math.min(ready, count));
  }

  async #write(blocks: Block[], from: number, to: number): Promise<void> {
    if (!(await this.#store.room(to - from, this))) {
      throw new YavmError('YAVM_E_SPOOL', 'no room is left for output');
    }
    try {
      const segment = await this.#segmentFor(from, to);
      const { bytesWritten } = await (segment.handle as FileHandle).writev(
        blocks.map(({ bytes, used }) => bytes.subarray(0, used)),
        from - segment.from,
      );
      if (bytesWritten < to - from) throw new YavmError('YAVM_E_SPOOL', 'the disk is full');
      segment.to = to;
    } catch (error) {
      this.#store.freed(to - from);
      throw error;
    } finally {
      this.#writing = null;
    }
  }

  async #segmentFor(from: number, to: number): Promise<Segment> {
    const last = this.#segments.at(-1);
    if (last?.handle && last.to === from && to - last.from <= this.#sizes.file) {
      this.#writing = last;
      return last;
    }
    this.trim();
    if (this.#store.closed) throw new YavmError('YAVM_E_SPOOL', 'the activity is over');
    const path = this.#store.newPath();
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    const handle = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    const segment = { from, to: from, path, handle };
    this.#segments.push(segment);
    this.#writing = segment;
    return segment;
  }

  async #readFile(segment: Segment, position: number, length: number, into: Buffer): Promise<Uint8Array> {
    const { handle } = segment;
    try {
      const own = handle ?? (await open(segment.path, constants.O_RDONLY | constants.O_NOFOLLOW));
      try {
        const { buffer, bytesRead } = await own.read(into, 0, length, position - segment.from);
        if (bytesRead === 0) throw new Error('the file is shorter than it was');
        return buffer.subarray(0, bytesRead);
      } finally {
        if (handle === null) await own.close();
      }
    } catch (cause) {
      throw new YavmError('YAVM_E_SPOOL', `${segment.path}: cannot be read`, { cause });
    }
  }

  #dropOne(which: (segment: Segment) => boolean): boolean {
    const victim = this.#segments.find((segment) => segment !== this.#writing && which(segment));
    if (victim === undefined || this.#busy > 0) return false;
    this.#drop((segment) => segment === victim);
    return true;
  }

  #drop(which: (segment: Segment) => boolean): void {
    const dropped = this.#segments.filter((segment) => segment !== this.#writing && which(segment));
    if (dropped.length === 0) return;
    this.#segments = this.#segments.filter((segment) => !dropped.includes(segment));
    for (const { from, to, path, handle } of dropped) {
      this.#store.freed(to - from);
      unlink(path).catch(() => {});
      handle?.close().catch(() => {});
    }
  }

  async #closeHandles(): Promise<void> {
    for (const segment of this.#segments) {
      const { handle } = segment;
      segment.handle = null;
      await handle?.close().catch(() => {});
    }
  }

  #complain(error: unknown): void {
    if (this.#warned || this.#store.closed) return;
    this.#warned = true;
    this.#store.logger.warn(
      { err: toError(error) },
      'output of a command is lost: its spool cannot be written',
    );
  }
}
