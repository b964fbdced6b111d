/** Directories beneath a root that is not trusted: whatever links it holds, nothing outside it is reached. */
import type { Native } from '../../native/face.ts';
import { GuestError, hasErrno } from '../errors.ts';
import { O_CLOEXEC, O_DIRECTORY, O_PATH } from './constants.ts';

/** PATH_MAX: the kernel takes no longer path, in bytes. */
export const MAX_PATH = 4096;

const DIRECTORY = O_PATH | O_DIRECTORY | O_CLOEXEC;

/** Owner for directories that are made on the way. */
export interface Owner {
  uid: number;
  gid: number;
}

/** The parts of a path, without empty ones and `.`; a leading slash makes no difference. `..` is kept. */
export function pathParts(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

/** @throws {GuestError} bad-request when `path` is not absolute, too long, or has a NUL byte */
export function checkAbsolutePath(path: string): void {
  if (path.startsWith('/') && path.length < MAX_PATH && !path.includes('\0')) return;
  throw new GuestError(
    'bad-request',
    `'${path.slice(0, 200)}' is no absolute path shorter than ${MAX_PATH}`,
    { path },
  );
}

/**
 * Opens the directory `path` beneath `rootFd` as an O_PATH descriptor, making what is missing with `mode`
 * (less the umask) and `owner`. Symbolic links are followed, but never out of the root.
 * @throws NativeError ENOTDIR when a part is no directory, ENOENT when a part is a dangling link
 */
export function makeDirectories(
  native: Native,
  rootFd: number,
  path: string,
  mode: number,
  owner?: Owner,
): number {
  try {
    // Nearly always it is there: one call.
    return native.openBeneath(rootFd, path === '' ? '.' : path, DIRECTORY, 0);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
  let parent = native.openBeneath(rootFd, '.', DIRECTORY, 0);
  let prefix = '.';
  for (const part of pathParts(path)) {
    // From the root each time, not from the parent: a `..` or an absolute link must be seen against the whole root.
    prefix = `${prefix}/${part}`;
    let next: number;
    try {
      next = openOrMake(native, rootFd, parent, prefix, part, mode, owner);
    } finally {
      native.close(parent);
    }
    parent = next;
  }
  return parent;
}

function openOrMake(
  native: Native,
  rootFd: number,
  parentFd: number,
  prefix: string,
  name: string,
  mode: number,
  owner: Owner | undefined,
): number {
  try {
    return native.openBeneath(rootFd, prefix, DIRECTORY, 0);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
  if (makeDirectory(native, parentFd, name, mode) && owner)
    native.chownAt(parentFd, name, owner.uid, owner.gid);
  return native.openBeneath(rootFd, prefix, DIRECTORY, 0);
}

/** mkdirat(2); false when something of that name is there already. @throws NativeError */
export function makeDirectory(native: Native, parentFd: number, name: string, mode: number): boolean {
  try {
    native.mkdirAt(parentFd, name, mode);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    throw error;
  }
}
