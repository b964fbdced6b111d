/** Tar archives for tests: in memory, and by the system's own tar. */
import { execFileSync } from 'node:child_process';
import { ByteInput } from '../../guest/files/byte-input.ts';
import { type Entry, encodeEntry, paddedSize } from '../../guest/files/tar-header.ts';
import { TarInput } from '../../guest/files/tar-input.ts';
import { loadNative } from '../../native/load.ts';
import { fakeNative } from './fake-native.ts';

const addon = loadNative();

/** An entry with its content, all but the name optional. */
export interface Item extends Partial<Entry> {
  name: string;
  content?: Uint8Array;
}

/** A whole entry; a file's size is its content's. */
export function entryOf({ content, ...item }: Item): Entry {
  return {
    type: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: content?.byteLength ?? 0,
    mtime: 1_700_000_000,
    linkName: '',
    major: 0,
    minor: 0,
    attributes: [],
    ...item,
  };
}

/** An archive of our own making; `end: false` leaves the end mark out. */
export function makeTar(items: Item[], end = true): Uint8Array {
  const parts = items.flatMap((item) => {
    const content = new Uint8Array(paddedSize(item.content?.byteLength ?? 0));
    content.set(item.content ?? []);
    return [encodeEntry(addon, entryOf(item)), content];
  });
  return new Uint8Array(Buffer.concat([...parts, new Uint8Array(end ? 1024 : 0)]));
}

/** A reader over bytes in memory that come in pieces of `piece` bytes. */
export function inputOf(bytes: Uint8Array, piece = Number.POSITIVE_INFINITY): ByteInput {
  let at = 0;
  const { native } = fakeNative(
    {},
    {
      pageOffset: () => 0,
      read: (_fd, buffer) => {
        const part = bytes.subarray(at, at + Math.min(piece, buffer.byteLength));
        buffer.set(part);
        at += part.byteLength;
        return part.byteLength;
      },
    },
  );
  return new ByteInput(native, 0);
}

/** All entries of an archive with their content. @throws GuestError */
export function readTar(bytes: Uint8Array, piece?: number): (Entry & { content: Uint8Array })[] {
  const archive = new TarInput(addon, inputOf(bytes, piece));
  const entries: (Entry & { content: Uint8Array })[] = [];
  for (let entry = archive.next(); entry; entry = archive.next()) {
    const pieces: Uint8Array[] = [];
    archive.content((part) => pieces.push(part.slice()));
    entries.push({ ...entry, content: new Uint8Array(Buffer.concat(pieces)) });
  }
  return entries;
}

/** Runs the system's tar; returns its output. @throws Error with its complaints */
export function systemTar(args: string[], input?: Uint8Array): Buffer {
  return execFileSync('tar', args, {
    input,
    maxBuffer: 256 * 1024 * 1024,
    env: { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}
