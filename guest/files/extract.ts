/**
 * Writes a tar archive beneath a directory. Nobody is trusted: names with `..` are refused, a leading slash means the
 * directory itself, and links, whether planted by the archive or there before, never lead out of it, because every
 * name is resolved by the kernel with the directory as the root.
 */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { MAX_PATH, makeDirectories, makeDirectory, pathParts } from '../lib/beneath.ts';
import {
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
} from '../lib/constants.ts';
import { createFile } from '../lib/replace-file.ts';
import { writeAttributes } from './attributes.ts';
import type { ByteInput } from './byte-input.ts';
import { NewFile } from './new-file.ts';
import type { Entry } from './tar-header.ts';
import { TarInput } from './tar-input.ts';

/** Mode of directories that the archive does not list. */
const PARENT_MODE = 0o755;
/** Directories whose times wait for the end: writing into a directory changes its time. Beyond that, the oldest go first. */
const MAX_PENDING_TIMES = 65_536;

/** File type bits of the entries that mknod(2) makes. */
const NODES = { character: S_IFCHR, block: S_IFBLK, fifo: S_IFIFO } as const;

/** Where an entry goes: its directory, open, and its name there. */
interface Place {
  dirFd: number;
  name: string;
  /** Beneath the base, without a slash at either end. */
  path: string;
}

/**
 * Extracts everything that `input` brings into the directory `path` beneath `rootFd`, which is made if it is missing, and
 * reads it to its end. Returns the numbers of entries, and of extended attributes that were left out. The umask must be 0,
 * so that nodes get the mode of the archive.
 * @throws {GuestError} bad-archive, file-failed; entries before it stay
 */
export function extractTar(
  native: Native,
  rootFd: number,
  path: string,
  input: ByteInput,
): { entries: number; leftOut: number } {
  let baseFd: number;
  try {
    baseFd = makeDirectories(native, rootFd, path, PARENT_MODE);
  } catch (error) {
    throw fromNative('file-failed', `cannot open the directory '${path}'`, error);
  }
  const extraction = new Extraction(native, baseFd, new TarInput(native, input));
  try {
    const entries = extraction.run();
    input.drain();
    return { entries, leftOut: extraction.leftOut };
  } finally {
    extraction.close();
    native.close(baseFd);
  }
}

class Extraction {
  readonly #native: Native;
  readonly #baseFd: number;
  readonly #archive: TarInput;
  /** The directory of the entry before: as a path beneath the base, as the archive calls it, and open. */
  #parentPath = '';
  #parentName = '';
  #parentFd = -1;
  #times: { path: string; mtime: number }[] = [];
  /** Extended attributes that were not set. */
  leftOut = 0;

  constructor(native: Native, baseFd: number, archive: TarInput) {
    this.#native = native;
    this.#baseFd = baseFd;
    this.#archive = archive;
  }

  run(): number {
    let entries = 0;
    for (;;) {
      if (this.#parentFd >= 0) entries += this.#archive.putFiles(this.#parentFd, this.#parentName);
      const entry = this.#archive.next();
      if (!entry) break;
      try {
        this.#write(entry);
      } catch (error) {
        throw fromNative('file-failed', `cannot write '${entry.name}'`, error);
      }
      entries++;
    }
    this.#settleTimes(this.#times);
    return entries;
  }

  close(): void {
    if (this.#parentFd >= 0) this.#native.close(this.#parentFd);
    this.#parentFd = -1;
  }

  #write(entry: Entry): void {
    const place = this.#placeOf(entry);
    // The base itself is not the archive's to change.
    if (!place) return;
    switch (entry.type) {
      case 'file':
        this.#file(entry, place);
        break;
      case 'directory':
        this.#directory(entry, place);
        break;
      case 'symlink':
        this.#symlink(entry, place);
        break;
      case 'hardLink':
        this.#hardLink(entry, place);
        break;
      default:
        this.#node(entry, place, NODES[entry.type]);
    }
  }

  #file(entry: Entry, { dirFd, name }: Place): void {
    const native = this.#native;
    const small = entry.attributes.length === 0 ? this.#archive.smallContent() : null;
    if (small) {
      native.putFile(dirFd, name, small, entry.mode, entry.uid, entry.gid, entry.mtime);
      return;
    }
    const fd = createFile(native, dirFd, name);
    try {
      const file = new NewFile(native, fd);
      this.#archive.content((piece) => file.write(piece));
      file.end();
      this.#describe(fd, entry);
    } catch (error) {
      // Half of a file must not pass for a whole one.
      native.unlinkAt(dirFd, name, false);
      throw error;
    } finally {
      native.close(fd);
    }
    native.utimesAt(dirFd, name, entry.mtime);
  }

  /** A link to a directory counts as one, as images with a merged /usr need: `bin/` must not replace `bin → usr/bin`. */
  #directory(entry: Entry, { dirFd, name, path }: Place): void {
    const native = this.#native;
    if (!makeDirectory(native, dirFd, name, 0o700) && !this.#isDirectory(path)) {
      native.unlinkAt(dirFd, name, false);
      native.mkdirAt(dirFd, name, 0o700);
    }
    const fd = native.openBeneath(this.#baseFd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    try {
      this.#describe(fd, entry);
    } finally {
      native.close(fd);
    }
    this.#times.push({ path, mtime: entry.mtime });
    if (this.#times.length > MAX_PENDING_TIMES)
      this.#settleTimes(this.#times.splice(0, MAX_PENDING_TIMES / 2));
  }

  /** Owner first: a change of owner clears the set-id bits, and capabilities. */
  #describe(fd: number, { uid, gid, mode, attributes }: Entry): void {
    this.#native.chownFd(fd, uid, gid);
    this.#native.chmodFd(fd, mode);
    this.leftOut += writeAttributes(this.#native, fd, attributes);
  }

  #symlink(entry: Entry, { dirFd, name }: Place): void {
    const native = this.#native;
    replacing(native, dirFd, name, () => native.symlinkAt(entry.linkName, dirFd, name));
    native.chownAt(dirFd, name, entry.uid, entry.gid);
    native.utimesAt(dirFd, name, entry.mtime);
    // Paths that were resolved before may lead elsewhere now.
    this.close();
  }

  /** Only to what lies beneath the base; the content, owner and times are the other name's. */
  #hardLink(entry: Entry, { dirFd, name }: Place): void {
    const native = this.#native;
    const target = safeParts(entry.linkName);
    const targetName = target.pop();
    if (targetName === undefined)
      throw new GuestError('bad-archive', `'${entry.name}' is a hard link to nothing`);
    const targetDir = native.openBeneath(this.#baseFd, joined(target), O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    try {
      if (sameFile(native, targetDir, targetName, dirFd, name)) return;
      replacing(native, dirFd, name, () => native.linkAt(targetDir, targetName, dirFd, name));
    } finally {
      native.close(targetDir);
    }
  }

  /** Devices need root, as mknod(2) does, and are dead on the root's file systems, which are mounted nodev. */
  #node(entry: Entry, { dirFd, name }: Place, type: number): void {
    const native = this.#native;
    replacing(native, dirFd, name, () =>
      native.mknodAt(dirFd, name, type | entry.mode, entry.major, entry.minor),
    );
    native.chownAt(dirFd, name, entry.uid, entry.gid);
    native.utimesAt(dirFd, name, entry.mtime);
  }

  #placeOf({ name: whole }: Entry): Place | null {
    const name = whole.endsWith('/') ? whole.slice(0, -1) : whole;
    const slash = name.lastIndexOf('/');
    const parent = slash < 0 ? '' : name.slice(0, slash);
    const base = name.slice(slash + 1);
    const plain = base !== '' && base !== '.' && base !== '..' && !base.includes('\0');
    // Archives go directory by directory.
    if (plain && this.#parentFd >= 0 && parent === this.#parentName)
      return { dirFd: this.#parentFd, name: base, path: `${this.#parentPath}/${base}` };
    const place = this.#place(safeParts(whole));
    if (plain) this.#parentName = parent;
    return place;
  }

  /** Opens the directory that an entry lies in, making what is missing; null for the base itself. */
  #place(parts: string[]): Place | null {
    const name = parts[parts.length - 1];
    if (name === undefined) return null;
    const parentPath = joined(parts.slice(0, -1));
    if (this.#parentFd < 0 || parentPath !== this.#parentPath) {
      this.close();
      this.#parentFd = makeDirectories(this.#native, this.#baseFd, parentPath, PARENT_MODE);
      this.#parentPath = parentPath;
      this.#parentName = parentPath === '.' ? '' : parentPath;
    }
    return { dirFd: this.#parentFd, name, path: joined(parts) };
  }

  #isDirectory(path: string): boolean {
    try {
      const fd = this.#native.openBeneath(this.#baseFd, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
      this.#native.close(fd);
      return true;
    } catch (error) {
      if (hasErrno(error, 'ENOTDIR') || hasErrno(error, 'ENOENT') || hasErrno(error, 'ELOOP')) return false;
      throw error;
    }
  }

  /** Sets directories' times; one that was removed meanwhile (commands go on running) is no failure. */
  #settleTimes(times: { path: string; mtime: number }[]): void {
    for (const { path, mtime } of times) {
      try {
        const place = this.#place(pathParts(path));
        if (place) this.#native.utimesAt(place.dirFd, place.name, mtime);
      } catch (error) {
        if (!hasErrno(error, 'ENOENT') && !hasErrno(error, 'ENOTDIR')) {
          throw fromNative('file-failed', `cannot set the time of '${path}'`, error);
        }
      }
    }
  }
}

/** The parts of a name in an archive. @throws {GuestError} bad-archive when it climbs, is too long, or is empty */
export function safeParts(name: string): string[] {
  if (name === '' || name.includes('\0')) throw new GuestError('bad-archive', 'an entry has no name');
  if (name.length > MAX_PATH) throw new GuestError('bad-archive', `a name of ${name.length} characters`);
  const parts = pathParts(name);
  if (parts.includes('..')) throw new GuestError('bad-archive', `'${name}' leads out of the directory`);
  return parts;
}

function joined(parts: string[]): string {
  return parts.length === 0 ? '.' : parts.join('/');
}

/** Makes something whose name may be taken; whatever has it, other than a directory, gives way. */
function replacing(native: Native, dirFd: number, name: string, make: () => void): void {
  try {
    make();
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
    native.unlinkAt(dirFd, name, false);
    make();
  }
}

/** Whether both names are one file already: then unlinking the one would lose the other. */
function sameFile(native: Native, dirA: number, nameA: string, dirB: number, nameB: string): boolean {
  try {
    const a = native.statAt(dirA, nameA);
    const b = native.statAt(dirB, nameB);
    return a.dev === b.dev && a.ino === b.ino && (a.mode & S_IFMT) !== S_IFDIR;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
