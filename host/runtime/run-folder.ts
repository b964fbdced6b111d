/**
 * The folder of a running VM: vm.json, console.log, and the sockets that others add. A lock on it lives as long as the
 * process that supervises the VM, so that what a killed one left can be told from what is in use.
 */
import { randomInt } from 'node:crypto';
import {
  chmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import type { VmRecord } from './types.ts';

export const LOCK_FILE = 'lock';
export const RECORD_FILE = 'vm.json';
export const CONSOLE_FILE = 'console.log';

/** Ids that exist already, and janitors that come between, are rare. */
const MAX_ATTEMPTS = 100;

export interface RunFolder {
  /** Names the VM. */
  readonly id: string;
  readonly path: string;
  /** Writes vm.json, whole or not at all. */
  write(record: VmRecord): void;
  /** Removes the folder and gives the lock back. */
  remove(): void;
}

/** Makes a run folder under `base` (lib/paths: runBase). @throws {YavmError} YAVM_E_RUN_FOLDER */
export function createRunFolder(base: string, native: Native): RunFolder {
  ensurePrivate(base);
  try {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const id = randomId();
      const path = join(base, id);
      if (!make(path)) continue;
      const lock = takeLock(path, native);
      // The janitor of another start came between: it takes a folder without a lock for debris.
      if (lock === null) continue;
      return folderAt(id, path, lock, native);
    }
  } catch (cause) {
    throw new YavmError('YAVM_E_RUN_FOLDER', `${base}: cannot make a run folder`, { cause });
  }
  throw new YavmError(
    'YAVM_E_RUN_FOLDER',
    `${base}: no run folder could be made and locked in ${MAX_ATTEMPTS} attempts`,
  );
}

/** Makes `path` a directory of ours that nobody else can enter. @throws {YavmError} YAVM_E_RUN_FOLDER when it is not. */
export function ensurePrivate(path: string): void {
  try {
    makeFolders(path, 0o700);
    const stat = lstatSync(path);
    if (stat.isDirectory() && stat.uid === process.getuid?.()) {
      if ((stat.mode & 0o077) !== 0) chmodSync(path, 0o700);
      return;
    }
  } catch (cause) {
    throw new YavmError('YAVM_E_RUN_FOLDER', `${path}: cannot make this folder`, { cause });
  }
  throw new YavmError('YAVM_E_RUN_FOLDER', `${path}: not a directory of this user`, {
    hint: 'Somebody else made it. Remove it, or set XDG_RUNTIME_DIR to a private folder.',
  });
}

/**
 * Locks a run folder; null when another holds it or has removed it. The lock is the open file's: it goes with the
 * process, and no child inherits it.
 */
export function takeLock(path: string, native: Native): number | null {
  let fd: number;
  try {
    fd = openSync(join(path, LOCK_FILE), 'a', 0o600);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
  if (native.flock(fd, true) && fstatSync(fd).nlink > 0) return fd;
  native.close(fd);
  return null;
}

function folderAt(id: string, path: string, lock: number, native: Native): RunFolder {
  let removed = false;
  return {
    id,
    path,
    write(record) {
      if (removed) return;
      const fresh = join(path, `${RECORD_FILE}.new`);
      writeFileSync(fresh, `${JSON.stringify(record)}\n`, { mode: 0o600 });
      renameSync(fresh, join(path, RECORD_FILE));
    },
    remove() {
      if (removed) return;
      removed = true;
      rmSync(path, { recursive: true, force: true });
      native.close(lock);
    },
  };
}

function make(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 });
    return true;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    throw error;
  }
}

const CONSONANTS = 'bdfghjklmnprstvz';
const VOWELS = 'aeiou';

/** Four syllables, `tobikuda`: short, can be read out, 41 million of them. */
function randomId(): string {
  const letter = (letters: string) => letters[randomInt(letters.length)] as string;
  return Array.from({ length: 4 }, () => letter(CONSONANTS) + letter(VOWELS)).join('');
}
