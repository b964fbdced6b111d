/** One file: its bytes out, or bytes into it. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError, hasErrno } from '../errors.ts';
import { makeDirectories, pathParts } from '../lib/beneath.ts';
import {
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOCTTY,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../lib/constants.ts';
import { type FileAttributes, replaceFileWith } from '../lib/replace-file.ts';
import { type ByteInput, CHUNK } from './byte-input.ts';
import type { ByteOutput } from './byte-output.ts';
import { NewFile } from './new-file.ts';

const DEFAULT_MODE = 0o644;
const PARENT_MODE = 0o755;
/** Bytes read at once where the size does not tell how many there are. */
const PIECE = 64 * 1024;
/** MAXSYMLINKS of the kernel. */
const MAX_LINKS = 40;

/** Sends the content of the regular file `path`, resolved beneath `rootFd`. @throws {GuestError} file-failed */
export function sendFile(native: Native, rootFd: number, path: string, output: ByteOutput): void {
  try {
    // Non-blocking: opening a fifo must not wait for a writer before it is refused.
    const fd = native.openBeneath(rootFd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
    try {
      const { mode, size } = native.fstat(fd);
      checkRegular(mode, path);
      output.copyFrom(fd, size);
      // To the end and not to the size: files of /proc have none, and a log may grow.
      while (output.copyFrom(fd, PIECE) === PIECE);
      output.flush();
    } finally {
      native.close(fd);
    }
  } catch (error) {
    throw fromNative('file-failed', `cannot read '${path}'`, error);
  }
}

/**
 * Writes all of `input` to the file `path`, resolved beneath `rootFd`, in one step: readers see the old content or the
 * new. Links are followed to the file that they name. Missing directories are made, with the file's owner. Attributes
 * that are not given stay those of the file that is replaced, else 0644 and root. @throws {GuestError} file-failed
 */
export function receiveFile(
  native: Native,
  rootFd: number,
  path: string,
  attributes: Partial<FileAttributes>,
  input: ByteInput,
): void {
  try {
    const owner = { uid: attributes.uid ?? 0, gid: attributes.gid ?? 0 };
    const target = followLinks(native, rootFd, path);
    const dirFd = makeDirectories(native, rootFd, target.directory, PARENT_MODE, owner);
    try {
      const old = statOf(native, dirFd, target.name);
      if (old) checkRegular(old.mode, path);
      const final = {
        mode: attributes.mode ?? (old ? old.mode & 0o7777 : DEFAULT_MODE),
        uid: attributes.uid ?? old?.uid ?? 0,
        gid: attributes.gid ?? old?.gid ?? 0,
      };
      replaceFileWith(native, dirFd, target.name, final, (fd) => {
        const file = new NewFile(native, fd);
        for (let piece = input.take(CHUNK); piece.byteLength > 0; piece = input.take(CHUNK))
          file.write(piece);
        file.end();
      });
    } finally {
      native.close(dirFd);
    }
  } catch (error) {
    throw fromNative('file-failed', `cannot write '${path}'`, error);
  }
}

/**
 * The directory and name that `path` stands for when its last part is a link: a rename onto the path would replace the
 * link. The directory's own links are left to the kernel, which keeps them beneath the root.
 */
function followLinks(native: Native, rootFd: number, path: string): { directory: string; name: string } {
  let current = path;
  for (let links = 0; links <= MAX_LINKS; links++) {
    const parts = pathParts(current);
    const name = parts.pop();
    if (name === undefined || name === '..') throw isDirectory(path);
    if (current.endsWith('/')) throw namesDirectory(path);
    const directory = `/${parts.join('/')}`;
    const target = linkTarget(native, rootFd, directory, name);
    if (target === null) return { directory, name };
    current = target.startsWith('/') ? target : `${directory}/${target}`;
  }
  throw new GuestError('file-failed', `'${path}' is a loop of symbolic links`, { errno: 'ELOOP', path });
}

/** Target of a link; null when the name is something else, or nothing. */
function linkTarget(native: Native, rootFd: number, directory: string, name: string): string | null {
  let dirFd: number;
  try {
    dirFd = native.openBeneath(rootFd, directory, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
  try {
    const stat = statOf(native, dirFd, name);
    return stat && (stat.mode & S_IFMT) === S_IFLNK ? native.readlinkAt(dirFd, name) : null;
  } finally {
    native.close(dirFd);
  }
}

function statOf(native: Native, dirFd: number, name: string): ReturnType<Native['statAt']> | null {
  try {
    return native.statAt(dirFd, name);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
}

/** A device or fifo is no file to be read to its end, nor one to be replaced. */
function checkRegular(mode: number, path: string): void {
  const type = mode & S_IFMT;
  if (type === S_IFREG) return;
  if (type === S_IFDIR) throw isDirectory(path);
  throw new GuestError('file-failed', `'${path}' is no regular file`, { errno: 'EINVAL', path });
}

/** With a slash at its end it can only be a directory, there or not; a file must be given its name. */
function namesDirectory(path: string): GuestError {
  return new GuestError('file-failed', `'${path}' names a directory, and no file in it`, {
    errno: 'EISDIR',
    path,
  });
}

function isDirectory(path: string): GuestError {
  return new GuestError('file-failed', `'${path}' is a directory`, { errno: 'EISDIR', path });
}
