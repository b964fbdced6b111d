/** Removes what a supervisor that was killed has left: its run folder, and a QEMU that outlived it against all odds. */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Native } from '../../native/face.ts';
import { hasErrno, toError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { isAlive, type ProcessIdentity } from '../lib/process.ts';
import { RECORD_FILE, takeLock } from './run-folder.ts';

/**
 * Goes through the run folders under `base`. A folder is debris when nobody holds its lock and the supervisor in its
 * record, if it has one, is gone. Never fails: what cannot be removed is logged and left.
 * @returns names of the folders removed.
 */
export function cleanUp(base: string, native: Native, logger: Logger): string[] {
  const removed: string[] = [];
  for (const name of listFolders(base)) {
    try {
      if (cleanFolder(join(base, name), native, logger)) removed.push(name);
    } catch (error) {
      logger.warn({ folder: name, err: toError(error) }, 'cannot remove what a VM has left');
    }
  }
  return removed;
}

function listFolders(base: string): string[] {
  try {
    return readdirSync(base, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  }
}

function cleanFolder(path: string, native: Native, logger: Logger): boolean {
  const lock = takeLock(path, native);
  if (lock === null) return false;
  try {
    const { supervisor, qemu } = readIdentities(path);
    if (supervisor && isAlive(supervisor)) return false;
    if (qemu && isOrphan(qemu)) {
      logger.warn({ pid: qemu.pid, folder: path }, 'ended a QEMU whose supervisor is gone');
      native.kill(qemu.pid, 9);
    }
    // The lock is removed with the rest while it is held: who waits for it sees that the file has no name any more.
    rmSync(path, { recursive: true, force: true });
    logger.debug({ folder: path }, 'removed what a VM has left');
    return true;
  } finally {
    native.close(lock);
  }
}

/** The processes named by a folder's record; a record that cannot be read names none. */
function readIdentities(path: string): { supervisor?: ProcessIdentity; qemu?: ProcessIdentity } {
  try {
    const { supervisor, qemu } = JSON.parse(readFileSync(join(path, RECORD_FILE), 'utf8')) as Record<
      string,
      unknown
    >;
    return { supervisor: identityOf(supervisor), qemu: identityOf(qemu) };
  } catch {
    return {};
  }
}

function identityOf(value: unknown): ProcessIdentity | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { pid, startTime } = value as Record<string, unknown>;
  const valid = Number.isSafeInteger(pid) && (pid as number) > 1 && Number.isSafeInteger(startTime);
  return valid ? { pid: pid as number, startTime: startTime as number } : undefined;
}

/** Whether this is that very process, still a QEMU. Its supervisor is known to be gone. */
function isOrphan(identity: ProcessIdentity): boolean {
  if (!isAlive(identity)) return false;
  try {
    return readFileSync(`/proc/${identity.pid}/comm`, 'utf8').startsWith('qemu-system');
  } catch {
    return false;
  }
}
