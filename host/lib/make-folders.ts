/**
 * Folders with all that lead there. In place of Node's `recursive: true`, which never returns where the kernel says ENOENT to a
 * mkdir in a folder that is there, as procfs does (tried with Node 24).
 */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { hasErrno } from './errors.ts';

/**
 * Makes `path` a folder, and its parents where they are missing; `mode` is that of all that it makes, before the umask. One that
 * is there stays as it is.
 * @throws what mkdir(2) fails with
 */
export function makeFolders(path: string, mode = 0o777): void {
  try {
    mkdirSync(path, { mode });
    return;
  } catch (error) {
    if (hasErrno(error, 'EEXIST') && isFolder(path)) return;
    const parent = dirname(path);
    if (!hasErrno(error, 'ENOENT') || parent === path || isFolder(parent)) throw error;
    makeFolders(parent, mode);
  }
  makeFolders(path, mode);
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
