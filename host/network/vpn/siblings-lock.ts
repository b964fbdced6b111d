/**
 * Who owns a network on this host: who holds the lock of a file in the run folder. The lock is the open file's: it goes with
 * the process however that ends, and no child inherits it. Beside the file is the owner's socket.
 *
 * Both files go with their owner. What a killed one left is taken over by the next owner of that network, or removed by the
 * next process that joins any network ({@link sweep}); the janitor of the run folders looks at folders only.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Native } from '../../../native/face.ts';
import { hasErrno, YavmError } from '../../lib/errors.ts';
import type { SiblingsSetup } from './siblings-face.ts';

export interface NetworkPlace {
  lock: string;
  socket: string;
}

export interface NetworkLock {
  /** Removes lock and socket, and gives the lock back: the next one can have it at once. */
  release(): void;
}

/** Characters of a hash, 6 bits each: no longer than a VM's folder and its sockets, which the doctor looks at. */
const HASH_LENGTH = 20;
/** sun_path of unix(7), without its NUL. */
const MAX_PATH = 107;
/** Times that a file is found removed between opening and locking it. */
const MAX_ATTEMPTS = 5;
const LOCK_NAME = /^net-[\w-]{20}\.lock$/;
/** Files that a sweep looks at. */
const MAX_SWEPT = 256;

/** @throws {YavmError} YAVM_E_NET_SIBLINGS: the folder's path is too long */
export function placeOf({ folder, nodeId, requestorId, networkId }: SiblingsSetup): NetworkPlace {
  // A list in JSON: no two of them have the same text.
  const key = JSON.stringify([nodeId.toLowerCase(), requestorId.toLowerCase(), networkId]);
  const hash = createHash('sha256').update(key).digest('base64url').slice(0, HASH_LENGTH);
  const path = join(folder, `net-${hash}`);
  const socket = `${path}.sock`;
  if (Buffer.byteLength(socket) > MAX_PATH) {
    throw new YavmError(
      'YAVM_E_NET_SIBLINGS',
      `${socket}: the path of a socket has ${MAX_PATH} bytes at most`,
      {
        hint: 'Set XDG_RUNTIME_DIR to a folder with a shorter path.',
      },
    );
  }
  return { lock: `${path}.lock`, socket };
}

/** Null when another holds it. @throws system errors: the folder is not there, or cannot be written */
export function takeNetwork(place: NetworkPlace, native: Native): NetworkLock | null {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const fd = openSync(place.lock, 'a', 0o600);
    if (!native.flock(fd, true)) {
      closeSync(fd);
      return null;
    }
    if (fstatSync(fd).nlink > 0) return lockOn(fd, place);
    // Its holder has removed it meanwhile: a lock on a file without a name is none.
    closeSync(fd);
  }
  return null;
}

/** Removes what owners that were killed have left of other networks. What cannot be removed is left. */
export function sweep(folder: string, native: Native): void {
  const names = readdirSync(folder).filter((name) => LOCK_NAME.test(name));
  for (const name of names.slice(0, MAX_SWEPT)) {
    const lock = join(folder, name);
    try {
      const fd = openSync(lock, 'r+');
      if (native.flock(fd, true) && fstatSync(fd).nlink > 0) {
        lockOn(fd, { lock, socket: lock.replace(/lock$/, 'sock') }).release();
      } else {
        closeSync(fd);
      }
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
  }
}

function lockOn(fd: number, { lock, socket }: NetworkPlace): NetworkLock {
  let held = true;
  return {
    release() {
      if (!held) return;
      held = false;
      try {
        rmSync(socket, { force: true });
        rmSync(lock, { force: true });
      } finally {
        closeSync(fd);
      }
    },
  };
}
