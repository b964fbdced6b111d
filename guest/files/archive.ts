/** Writes a file or a directory tree as a tar archive, as `docker cp` names things: the top entry is the path's last part. */
import type { FileStat, Native } from '../../native/face.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { pathParts } from '../lib/beneath.ts';
import {
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../lib/constants.ts';
import { type Attribute, NO_ATTRIBUTES, readAttributes } from './attributes.ts';
import type { ByteOutput } from './byte-output.ts';
import { BLOCK, type Entry, type EntryType, encodeEntry, paddedSize } from './tar-header.ts';

/** An archive ends with two blocks of zeros. */
const END_BLOCKS = 2;
/** One descriptor is open for each level; the usual limit is 1024. */
const MAX_DEPTH = 512;
/** Files with several names that are remembered; further ones are stored whole under each name. */
const MAX_HARD_LINKS = 262_144;
/**
 * File systems that a walk does not enter from outside (statfs(2) f_type, linux/magic.h): their files are no data, and
 * some never end. Asking for a path inside one is another matter.
 */
const KERNEL_FILE_SYSTEMS = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x1cd1, // devpts
  0x63677270, // cgroup2
  0x19800202, // mqueue
  0x64626720, // debugfs
  0x74726163, // tracefs
  0x73636673, // securityfs
  0xcafe4a11, // bpf
]);

const TYPES: Record<number, EntryType> = {
  [S_IFREG]: 'file',
  [S_IFDIR]: 'directory',
  [S_IFLNK]: 'symlink',
  [S_IFCHR]: 'character',
  [S_IFBLK]: 'block',
  [S_IFIFO]: 'fifo',
};

/**
 * Archives `path`, resolved beneath `rootFd`. A symbolic link as the last part is archived as such; with a slash behind
 * it, what it leads to; with `/.`, the content without the directory's name. Returns the numbers of entries, and of extended
 * attributes that were left out.
 * A file that shrinks meanwhile is filled up with zeros, and reported at the end; what vanishes is left out.
 * @throws {GuestError} file-failed
 */
export function archiveTree(
  native: Native,
  rootFd: number,
  path: string,
  output: ByteOutput,
): { entries: number; leftOut: number } {
  const walk = new Walk(native, output);
  try {
    walk.start(rootFd, path);
  } catch (error) {
    throw fromNative('file-failed', `cannot archive '${path}'`, error);
  }
  output.zeros(END_BLOCKS * BLOCK);
  output.flush();
  if (walk.damaged !== null) {
    throw new GuestError('file-failed', `'${walk.damaged}' was cut while it was being read`, {
      path: walk.damaged,
    });
  }
  return { entries: walk.entries, leftOut: walk.leftOut };
}

class Walk {
  readonly #native: Native;
  readonly #output: ByteOutput;
  /** First name of each file that has several. */
  readonly #links = new Map<string, string>();
  entries = 0;
  /** Extended attributes that are too many, or too large. */
  leftOut = 0;
  /** The first file whose content is not what its header says. */
  damaged: string | null = null;

  constructor(native: Native, output: ByteOutput) {
    this.#native = native;
    this.#output = output;
  }

  start(rootFd: number, path: string): void {
    const native = this.#native;
    const parts = pathParts(path);
    const last = parts.pop();
    const content = last === undefined || last === '..' || path.endsWith('/.');
    if (content || path.endsWith('/')) {
      const fd = native.openBeneath(rootFd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
      this.#directory(fd, content ? '.' : (last as string), native.fstat(fd), 0);
      return;
    }
    const parent = native.openBeneath(rootFd, `/${parts.join('/')}`, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    try {
      this.#entry(parent, last, last, native.statAt(parent, last), 0);
    } finally {
      native.close(parent);
    }
  }

  /** Archives the name `base` in an open directory as `name`. */
  #entry(dirFd: number, base: string, name: string, stat: FileStat, depth: number): void {
    const native = this.#native;
    const type = TYPES[stat.mode & S_IFMT];
    // Sockets have no form in an archive; they mean nothing without their process.
    if (!type) return;
    if (type === 'directory') {
      const fd = native.openBeneath(dirFd, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
      this.#directory(fd, name, native.fstat(fd), depth);
      return;
    }
    const known = this.#knownLink(stat, name);
    if (known !== null) this.#header(name, 'hardLink', stat, { linkName: known });
    else if (type === 'file') this.#file(dirFd, base, name);
    else if (type === 'symlink') this.#header(name, type, stat, { linkName: native.readlinkAt(dirFd, base) });
    else this.#header(name, type, stat, deviceNumbers(stat.rdev));
  }

  /** Takes `fd` over. */
  #directory(fd: number, name: string, stat: FileStat, depth: number): void {
    const native = this.#native;
    try {
      this.#header(name, 'directory', stat, { attributes: this.#attributes(fd) });
      if (depth >= MAX_DEPTH) {
        throw new GuestError('file-failed', `more than ${MAX_DEPTH} directories within each other`, {
          path: name,
        });
      }
      const names = native.readDirectory(fd).map((entry) => entry.name);
      for (const base of names.sort()) this.#child(fd, base, `${name}/${base}`, stat, depth + 1);
    } finally {
      native.close(fd);
    }
  }

  /** One name of a directory. What is gone by now, or has become something else, is left out. */
  #child(dirFd: number, base: string, name: string, parent: FileStat, depth: number): void {
    try {
      const stat = this.#native.statAt(dirFd, base);
      const foreign = stat.dev !== parent.dev && (stat.mode & S_IFMT) === S_IFDIR;
      if (foreign && this.#isKernelFileSystem(dirFd, base)) this.#header(name, 'directory', stat, {});
      else this.#entry(dirFd, base, name, stat, depth);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ELOOP') && !hasErrno(error, 'ENOTDIR')) {
        throw fromNative('file-failed', `cannot read '${name}'`, error);
      }
    }
  }

  #file(dirFd: number, base: string, name: string): void {
    const native = this.#native;
    // Non-blocking: should a fifo have taken the name since, its open must not wait for a writer.
    const fd = native.openBeneath(dirFd, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    try {
      const stat = native.fstat(fd);
      if ((stat.mode & S_IFMT) !== S_IFREG) return;
      this.#header(name, 'file', stat, { size: stat.size, attributes: this.#attributes(fd) });
      const missing = stat.size - this.#output.copyFrom(fd, stat.size);
      if (missing > 0) {
        this.damaged ??= name;
        this.#output.zeros(missing);
      }
      this.#output.zeros(paddedSize(stat.size) - stat.size);
    } finally {
      native.close(fd);
    }
  }

  /** The name under which this file is in the archive already; null for one that is new. */
  #knownLink(stat: FileStat, name: string): string | null {
    if (stat.nlink < 2) return null;
    // Numbers are doubles: a shared folder's 64-bit inode may have lost bits, so the rest must agree too.
    const key = [stat.dev, stat.ino, stat.mode, stat.nlink, stat.size, stat.mtime].join();
    const known = this.#links.get(key);
    if (known !== undefined) return known;
    if (this.#links.size < MAX_HARD_LINKS) this.#links.set(key, name);
    return null;
  }

  #isKernelFileSystem(dirFd: number, base: string): boolean {
    const native = this.#native;
    const fd = native.openBeneath(dirFd, base, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    try {
      return KERNEL_FILE_SYSTEMS.has(native.statfs(`/proc/self/fd/${fd}`).type);
    } finally {
      native.close(fd);
    }
  }

  #attributes(fd: number): readonly Attribute[] {
    const { attributes, leftOut } = readAttributes(this.#native, fd);
    this.leftOut += leftOut;
    return attributes;
  }

  #header(name: string, type: EntryType, stat: FileStat, more: Partial<Entry>): void {
    const { mode, uid, gid, mtime } = stat;
    const none = { size: 0, linkName: '', major: 0, minor: 0, attributes: NO_ATTRIBUTES };
    const entry = { ...none, name, type, mode, uid, gid, mtime, ...more };
    this.#output.put(encodeEntry(this.#native, entry));
    this.entries++;
  }
}

/** Major and minor of a dev_t as glibc and musl pack them (sys/sysmacros.h); numbers above 2³¹ are no integers to `>>`. */
export function deviceNumbers(device: number): { major: number; minor: number } {
  const low = device % 2 ** 32;
  const high = Math.floor(device / 2 ** 32);
  return {
    major: (Math.floor(low / 2 ** 8) % 2 ** 12) + Math.floor(high / 2 ** 12) * 2 ** 12,
    minor: (low % 2 ** 8) + Math.floor(low / 2 ** 20) * 2 ** 8 + (high % 2 ** 12) * 2 ** 20,
  };
}
