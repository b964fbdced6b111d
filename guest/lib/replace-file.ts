/** Writing a file so that a reader sees the old content or the new, and never half of it. */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } from './constants.ts';

export interface FileAttributes {
  /** Permission bits, set-id bits included. */
  mode: number;
  uid: number;
  gid: number;
}

/**
 * Puts `fill`'s bytes at `name` in the directory, by way of a temporary name beside it. A link of that name is
 * replaced, not followed. On failure nothing is left behind. @throws NativeError, or what `fill` throws
 */
export function replaceFileWith(
  native: Native,
  dirFd: number,
  name: string,
  attributes: FileAttributes,
  fill: (fd: number) => void,
): void {
  const temporary = `.yavm-${native.getPid()}.tmp`;
  const fd = createFile(native, dirFd, temporary);
  try {
    try {
      fill(fd);
      // Owner first: a change of owner clears the set-id bits.
      native.chownFd(fd, attributes.uid, attributes.gid);
      native.chmodFd(fd, attributes.mode);
    } finally {
      native.close(fd);
    }
    native.renameAt(dirFd, temporary, dirFd, name);
  } catch (error) {
    removeQuietly(native, dirFd, temporary);
    throw error;
  }
}

/** {@link replaceFileWith} for text, owned by root. */
export function replaceTextFile(
  native: Native,
  dirFd: number,
  name: string,
  text: string,
  mode = 0o644,
): void {
  replaceFileWith(native, dirFd, name, { mode, uid: 0, gid: 0 }, (fd) =>
    writeAll(native, fd, new TextEncoder().encode(text)),
  );
}

/**
 * Creates the regular file `name`, taking the place of whatever has that name (other than a directory), so that
 * neither a link is followed nor another name's content changed. Mode 0600 until its owner is set.
 * @throws NativeError
 */
export function createFile(native: Native, dirFd: number, name: string): number {
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  try {
    return native.openBeneath(dirFd, name, flags, 0o600);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
  }
  native.unlinkAt(dirFd, name, false);
  return native.openBeneath(dirFd, name, flags, 0o600);
}

/** Writes all of `bytes` to a blocking descriptor. @throws NativeError */
export function writeAll(native: Native, fd: number, bytes: Uint8Array): void {
  let offset = 0;
  while (offset < bytes.byteLength) {
    const written = native.write(fd, offset === 0 ? bytes : bytes.subarray(offset));
    if (written < 0) throw new Error('descriptor is not in blocking mode');
    offset += written;
  }
}

function removeQuietly(native: Native, dirFd: number, name: string): void {
  try {
    native.unlinkAt(dirFd, name, false);
  } catch {
    // The failure that led here is the one to report.
  }
}
