/** A tree as one tar, in the order of its names, as mksquashfs reads it: pax headers only where ustar cannot say it. */
import { encodePax } from './pax.ts';
import type { Segment } from './sparse.ts';
import { BLOCK } from './tar-header.ts';
import { type FileTree, type Inode, type Node, storedSize } from './tree.ts';

/** What a ustar header's fields hold: bytes of a name, and numbers of 7 and 11 octal digits. */
const NAME = 100;
const MAX_SEVEN = 0o7777777;
const MAX_ELEVEN = 0o77777777777;
/** Bytes handed on at a time. */
const PIECE = 1024 * 1024;

const TYPE_FLAGS = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
} as const;

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
  yield* out.add(Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK));
}

/** GNU's form 1.0: the map before the content. An empty segment at the end says where the file ends. */
function sparseMap(size: number, segments: readonly Segment[]): Buffer {
  const filled = segments.filter((segment) => segment.size > 0);
  const all = [...filled, { at: size, size: 0 }];
  const text = `${all.length}\n${all.map((each) => `${each.at}\n${each.size}\n`).join('')}`;
  return padded(Buffer.from(text, 'latin1'));
}

interface HeaderFacts {
  type: keyof typeof TYPE_FLAGS;
  linkName: string;
  /** Bytes behind the header. */
  size: number;
  /** Bytes of a file with holes. */
  holes?: number;
}

/** The header, with a pax header before it where that is needed. */
function headerOf(path: string, inode: Inode, { type, linkName, size, holes }: HeaderFacts): Buffer {
  const records: Buffer[] = [];
  const text = (key: string, value: string) => records.push(encodePax(key, Buffer.from(value, 'latin1')));
  const number = (key: string, value: number, most: number): number => {
    if (value <= most) return value;
    text(key, String(value));
    return 0;
  };
  if (path.length > NAME) text('path', path);
  if (linkName.length > NAME) text('linkpath', linkName);
  const fields = {
    mode: inode.mode,
    uid: number('uid', inode.uid, MAX_SEVEN),
    gid: number('gid', inode.gid, MAX_SEVEN),
    size: number('size', size, MAX_ELEVEN),
    mtime: inode.mtime,
    major: inode.major,
    minor: inode.minor,
  };
  if (holes !== undefined) {
    text('GNU.sparse.major', '1');
    text('GNU.sparse.minor', '0');
    text('GNU.sparse.name', path);
    text('GNU.sparse.realsize', String(holes));
  }
  // A link's attributes are its file's.
  const xattrs = type === 'hardlink' ? [] : [...(inode.xattrs ?? [])].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, value] of xattrs) records.push(encodePax(`SCHILY.xattr.${name}`, value));
  const header = encodeHeader(path, linkName, TYPE_FLAGS[type], fields);
  if (records.length === 0) return header;
  const body = Buffer.concat(records);
  const own = { mode: 0o644, uid: 0, gid: 0, size: body.length, mtime: 0, major: 0, minor: 0 };
  return Buffer.concat([encodeHeader('pax', '', 'x', own), padded(body), header]);
}

type Fields = Record<'mode' | 'uid' | 'gid' | 'size' | 'mtime' | 'major' | 'minor', number>;

function encodeHeader(path: string, linkName: string, type: string, fields: Fields): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(path.slice(0, NAME), 0, 'latin1');
  const octal = (value: number, at: number, length: number) =>
    block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1');
  octal(fields.mode, 100, 8);
  octal(fields.uid, 108, 8);
  octal(fields.gid, 116, 8);
  octal(fields.size, 124, 12);
  octal(fields.mtime, 136, 12);
  block.write('        ', 148, 'latin1');
  block.write(type, 156, 'latin1');
  block.write(linkName.slice(0, NAME), 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(fields.major, 329, 8);
  octal(fields.minor, 337, 8);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);
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
