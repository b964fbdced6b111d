/** A tree as one tar, in the order of its names, as mksquashfs reads it: pax headers only where ustar cannot say it. */
import { rawBytes } from '../../lib/raw-name.ts';
import { BLOCK, type EntryType, encodeEntry, padded, paddedSize, TypeFlag } from '../../lib/tar/header.ts';
import { type PaxRecord, XATTR_KEY } from '../../lib/tar/pax.ts';
import type { Segment } from './sparse.ts';
import { type FileTree, type Inode, type Node, storedSize } from './tree.ts';

/** Bytes handed on at a time. */
const PIECE = 1024 * 1024;

export interface WriterOptions {
  /** What is written for an owner; default: its number. */
  owner?: (id: number) => number;
  /** Bytes of files' content that were read. */
  onContent?: (count: number) => void;
}

/** Pieces of an archive. Who gives one back with `next` gets it filled anew: fresh memory costs as much as the reading. */
export type Pieces = Generator<Buffer, void, Buffer | undefined>;

/** The whole archive. The root itself is not in it: mksquashfs takes none. */
export function* tarOf(tree: FileTree, options: WriterOptions = {}): Pieces {
  const out = new Output();
  /** The first name of each file that has several. */
  const names = new Map<Inode, string>();
  const stack: { prefix: string; nodes: [string, Node][] }[] = [{ prefix: '', nodes: sorted(tree.root) }];
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const next = top.nodes.pop();
    if (!next) {
      stack.pop();
      continue;
    }
    const [name, node] = next;
    const path = `${top.prefix}${name}`;
    const first = names.get(node.inode);
    yield* first === undefined
      ? writeNode(out, path, withOwner(node.inode, options), options)
      : out.add(headerOf(path, node.inode, { type: 'hardlink', linkName: first, size: 0 }));
    if (node.children) stack.push({ prefix: `${path}/`, nodes: sorted(node) });
    else names.set(node.inode, path);
  }
  yield* out.add(Buffer.alloc(2 * BLOCK));
  yield* out.flush();
}

/** From last to first, to be taken from the end. Bytes compare as the characters do. */
function sorted(node: Node): [string, Node][] {
  return [...(node.children ?? [])].sort(([a], [b]) => (a < b ? 1 : -1));
}

function withOwner(inode: Inode, { owner }: WriterOptions): Inode {
  return owner ? { ...inode, uid: owner(inode.uid), gid: owner(inode.gid) } : inode;
}

function* writeNode(out: Output, path: string, inode: Inode, options: WriterOptions): Pieces {
  const { content } = inode;
  if (!content) {
    yield* out.add(headerOf(path, inode, { type: inode.type, linkName: inode.target, size: 0 }));
    return;
  }
  const map = content.segments ? sparseMap(content.size, content.segments) : null;
  const stored = storedSize(content);
  const size = stored + (map?.length ?? 0);
  const holes = map ? content.size : undefined;
  yield* out.add(headerOf(path, inode, { type: 'file', linkName: '', size, holes }));
  if (map) yield* out.add(map);
  for (let done = 0; done < stored; ) {
    const length = Math.min(stored - done, out.room);
    content.archive.read(out.take(length), content.at + done);
    done += length;
    options.onContent?.(length);
    if (out.room === 0) yield* out.flush();
  }
  yield* out.add(Buffer.alloc(paddedSize(size) - size));
}

/** GNU's form 1.0: the map before the content. An empty segment at the end says where the file ends. */
function sparseMap(size: number, segments: readonly Segment[]): Buffer {
  const filled = segments.filter((segment) => segment.size > 0);
  const all = [...filled, { at: size, size: 0 }];
  const text = `${all.length}\n${all.map((each) => `${each.at}\n${each.size}\n`).join('')}`;
  return padded(Buffer.from(text, 'latin1'));
}

interface HeaderFacts {
  type: EntryType;
  linkName: string;
  /** Bytes behind the header. */
  size: number;
  /** Bytes of a file with holes. */
  holes?: number;
}

/** The header, with an extended one before it where that is needed. */
function headerOf(path: string, inode: Inode, { type, linkName, size, holes }: HeaderFacts): Buffer {
  const records: PaxRecord[] = [];
  if (holes !== undefined) {
    records.push(
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.name', path],
      ['GNU.sparse.realsize', String(holes)],
    );
  }
  // A link's attributes are its file's.
  const xattrs = type === 'hardlink' ? [] : [...(inode.xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, value] of xattrs) records.push([XATTR_KEY + name, rawBytes(value)]);
  const { mode, uid, gid, mtime, major, minor } = inode;
  const owned = { mode, uid, gid, mtime, major, minor };
  return encodeEntry({ ...owned, name: path, flag: TypeFlag[type], target: linkName, size }, records);
}

/** Collects bytes into pieces. */
class Output {
  #piece: Buffer = Buffer.allocUnsafe(PIECE);
  #used = 0;

  get room(): number {
    return PIECE - this.#used;
  }

  /** Copies bytes, and hands on the pieces that they fill. */
  *add(bytes: Buffer): Pieces {
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + this.room);
      this.take(part.length).set(part);
      done += part.length;
      if (this.room === 0) yield* this.flush();
    }
  }

  /** A part of the piece, to be filled; `length` is at most `room`. */
  take(length: number): Buffer {
    this.#used += length;
    return this.#piece.subarray(this.#used - length, this.#used);
  }

  /** Hands on what there is. */
  *flush(): Pieces {
    if (this.#used === 0) return;
    const back = yield this.#piece.subarray(0, this.#used);
    this.#piece = back?.length === PIECE ? back : Buffer.allocUnsafe(PIECE);
    this.#used = 0;
  }
}
