/**
 * A root file system in memory, without its content: what layers, applied one over the other, leave.
 *
 * Names through symbolic links are resolved inside the root, as container runtimes do when they unpack: in an image with
 * `bin -> usr/bin` a later layer's `bin/tool` is `/usr/bin/tool`, and a link that points out of the root (`../..`, or
 * absolute) leads nowhere but into it. Nothing of the host is touched, whatever a name says.
 */
import type { EntryType } from '../../lib/tar/header.ts';
import { ImageArchiveError } from '../errors.ts';
import type { Content, TarEntry } from './tar-index.ts';

export type InodeType = Exclude<EntryType, 'hardlink'>;

/** What several names of one file share. */
export interface Inode {
  type: InodeType;
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since the epoch. */
  mtime: number;
  /** Of a symbolic link, a byte a character. */
  target: string;
  major: number;
  minor: number;
  xattrs: ReadonlyMap<string, Buffer> | null;
  /** Of a regular file. */
  content: Content | null;
}

export interface Node {
  inode: Inode;
  /** Of a directory: by name, a byte a character. */
  children: Map<string, Node> | null;
  /** The last layer that has it, or something beneath it. */
  layer: number;
}

/** Names in one tree at most: each takes some hundred bytes of memory. */
const MAX_NODES = 4_000_000;
/** NAME_MAX and PATH_MAX of Linux, the latter without its NUL. */
const MAX_NAME = 255;
const MAX_PATH = 4095;
/** Symbolic links in one name at most, as the kernel has it. */
const MAX_LINKS = 40;
/** Device numbers that squashfs can keep. */
const MAX_MAJOR = 0xfff;
const MAX_MINOR = 0xfffff;

/** The parts of a name in an archive; none: the root itself. @throws {ImageArchiveError} it is absolute, has `..`, or is too long */
export function nameParts(name: string): string[] {
  const refuse = (why: string) => new ImageArchiveError(`the name ${quote(name)} ${why}`);
  if (name === '') throw refuse('is empty');
  if (name.includes('\0')) throw refuse('contains a NUL byte');
  if (name.length > MAX_PATH) throw refuse(`is longer than ${MAX_PATH} bytes`);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (name.startsWith('/') && parts.length > 0) throw refuse('is absolute');
  if (parts.includes('..')) throw refuse("contains '..'");
  if (parts.some((part) => part.length > MAX_NAME)) throw refuse(`has a part of more than ${MAX_NAME} bytes`);
  return parts;
}

export class FileTree {
  readonly root: Node;
  readonly #time: number;
  #count = 1;

  /** @param time Of directories that are in no layer but above something that is, seconds since the epoch. */
  constructor(time: number) {
    this.#time = time;
    this.root = directoryNode(time, 0);
  }

  /** Puts an entry of a layer in its place. Who comes later replaces what is there. @throws {ImageArchiveError} */
  put(entry: TarEntry, layer: number): void {
    const parts = nameParts(entry.name);
    const base = parts.pop();
    if (base === undefined) {
      if (entry.type !== 'directory') throw new ImageArchiveError('the root is no directory');
      this.root.inode = inodeOf(entry, 'directory');
      return;
    }
    const parent = this.#directory(parts, layer) as Map<string, Node>;
    const before = parent.get(base);
    if (entry.type === 'directory' && before?.children) {
      before.inode = inodeOf(entry, 'directory');
      before.layer = layer;
      return;
    }
    const node: Node = {
      inode: entry.type === 'hardlink' ? this.#linked(entry) : inodeOf(entry, entry.type),
      children: entry.type === 'directory' ? new Map() : null,
      layer,
    };
    this.#add(parent, base, node);
  }

  /** Hides what lower layers have of this name; what the same layer has stays. */
  hide(parts: readonly string[], layer: number): void {
    const parent = this.#directory(parts.slice(0, -1));
    const base = parts.at(-1);
    const node = base === undefined ? undefined : parent?.get(base);
    if (!parent || !node || base === undefined) return;
    if (node.layer < layer) parent.delete(base);
    else if (node.children) hideLower(node.children, layer);
  }

  /** Hides what lower layers have in this directory. */
  hideContent(parts: readonly string[], layer: number): void {
    const children = this.#directory(parts);
    if (children) hideLower(children, layer);
  }

  /** The file that a hard link names. The last part is not followed when it is a symbolic link: link(2) does not. */
  #linked(entry: TarEntry): Inode {
    // Absolute targets are common, and as harmless as relative ones: both are of this root.
    const parts = nameParts(entry.linkName.replace(/^\/+(?=.)/, ''));
    const base = parts.pop();
    const node = base === undefined ? undefined : this.#directory(parts)?.get(base);
    if (!node || node.children) {
      const what = node ? 'a directory' : 'not there';
      throw new ImageArchiveError(
        `the hard link ${quote(entry.name)} leads to ${quote(entry.linkName)}, which is ${what}`,
      );
    }
    return node.inode;
  }

  #add(parent: Map<string, Node>, base: string, node: Node): void {
    if (!parent.has(base) && ++this.#count > MAX_NODES)
      throw new ImageArchiveError(`more than ${MAX_NODES} files`);
    parent.set(base, node);
  }

  /** A directory's content, symbolic links followed. What is missing is made, for `layer`; without one it is null. */
  #directory(parts: readonly string[], layer?: number): Map<string, Node> | null {
    const path = [this.root];
    const pending = parts.toReversed();
    let links = 0;
    for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (path.length > 1) path.pop();
        continue;
      }
      const children = (path.at(-1) as Node).children as Map<string, Node>;
      let node = children.get(part);
      if (!node) {
        if (layer === undefined) return null;
        node = directoryNode(this.#time, layer);
        this.#add(children, part, node);
      }
      if (node.inode.type === 'symlink') {
        if (++links > MAX_LINKS)
          throw new ImageArchiveError(`too many symbolic links in ${quote(parts.join('/'))}`);
        const { target } = node.inode;
        if (target.startsWith('/')) path.length = 1;
        pending.push(...target.split('/').reverse());
        continue;
      }
      if (!node.children) {
        if (layer === undefined) return null;
        throw new ImageArchiveError(
          `${quote(parts.join('/'))} leads through ${quote(part)}, which is no directory`,
        );
      }
      if (layer !== undefined) node.layer = layer;
      path.push(node);
    }
    return (path.at(-1) as Node).children;
  }
}

function hideLower(children: Map<string, Node>, layer: number): void {
  for (const [name, node] of children) {
    if (node.layer < layer) children.delete(name);
    else if (node.children) hideLower(node.children, layer);
  }
}

function directoryNode(mtime: number, layer: number): Node {
  const inode: Inode = {
    ...{ type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime, target: '' },
    ...{ major: 0, minor: 0, xattrs: null, content: null },
  };
  return { inode, children: new Map(), layer };
}

function inodeOf(entry: TarEntry, type: InodeType): Inode {
  const { mode, uid, gid, mtime, major, minor, xattrs, content } = entry;
  if (
    type === 'symlink' &&
    (entry.linkName === '' || entry.linkName.length > MAX_PATH || entry.linkName.includes('\0'))
  )
    throw new ImageArchiveError(`the symbolic link ${quote(entry.name)} leads to no name that can be`);
  if (major > MAX_MAJOR || minor > MAX_MINOR)
    throw new ImageArchiveError(
      `the device ${quote(entry.name)} has the number ${major}:${minor}, which is too large`,
    );
  const target = type === 'symlink' ? entry.linkName : '';
  return { type, mode, uid, gid, mtime, target, major, minor, xattrs, content };
}

/** Bytes of an archive as text for a message: UTF-8 where it is that. */
export function quote(bytes: string): string {
  return JSON.stringify(Buffer.from(bytes.slice(0, 256), 'latin1').toString('utf8'));
}

/** What a tree has as a whole. */
export interface Survey {
  /** Bytes of all files' content, holes left out, and with them. */
  content: number;
  apparent: number;
  /** Time of the youngest file, seconds since the epoch; those of after `now` are left out. */
  newest: number;
  /** Owners and groups of all but the root. */
  owners: Set<number>;
}

export function surveyOf(tree: FileTree, now: number): Survey {
  const survey: Survey = {
    content: 0,
    apparent: 0,
    newest: Math.min(tree.root.inode.mtime, now),
    owners: new Set(),
  };
  const seen = new Set<Content>();
  const pending = [tree.root];
  for (let node = pending.pop(); node; node = pending.pop()) {
    const { mtime, uid, gid, content } = node.inode;
    if (mtime > survey.newest && mtime <= now) survey.newest = mtime;
    if (node !== tree.root) survey.owners.add(uid).add(gid);
    if (content && !seen.has(content)) {
      survey.content += storedSize(content);
      survey.apparent += content.size;
      seen.add(content);
    }
    if (node.children) for (const child of node.children.values()) pending.push(child);
  }
  return survey;
}

/** Bytes of a file that its archive holds. */
export function storedSize({ size, segments }: Content): number {
  return segments ? segments.reduce((sum, segment) => sum + segment.size, 0) : size;
}
