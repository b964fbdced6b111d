/** `file:` ends: files of this host, for scripts that a person starts here. Never for a requestor. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isDiskFull, YavmError } from '../lib/errors.ts';
import { filePath } from './location.ts';
import type { Bytes, TransferDestination, TransferSource } from './types.ts';

/** Bytes read at a time. */
const PIECE = 256 * 1024;

/** A regular file's bytes. @throws {YavmError} YAVM_E_URL; on opening YAVM_E_TRANSFER */
export function fileSource(url: URL): TransferSource {
  const path = filePath(url);
  return {
    shown: path,
    async open({ signal }) {
      const handle = await openRegular(path);
      const { size } = await handle.stat();
      return { size, bytes: handle.createReadStream({ highWaterMark: PIECE, signal }) };
    },
  };
}

/** A file that is there when all of it is. @throws {YavmError} YAVM_E_URL; on writing YAVM_E_DISK_FULL, YAVM_E_TRANSFER */
export function fileDestination(url: URL): TransferDestination {
  const path = filePath(url);
  return {
    shown: path,
    async write({ bytes }, { signal }) {
      const part = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}.part`);
      try {
        await storeFile(part, bytes, signal);
        await rename(part, path).catch((cause) => {
          throw storeError(path, cause);
        });
      } catch (error) {
        await rm(part, { force: true });
        throw error;
      }
    },
  };
}

/**
 * Writes all of `bytes` to a file that is not there yet. What it has written when something fails is the caller's to remove.
 * @throws {YavmError} YAVM_E_DISK_FULL, YAVM_E_TRANSFER; what `bytes` throws; the signal's reason
 */
export async function storeFile(path: string, bytes: Bytes, signal: AbortSignal): Promise<void> {
  const handle = await open(path, 'wx', 0o600).catch((cause) => {
    throw storeError(path, cause);
  });
  try {
    for await (const piece of bytes) {
      signal.throwIfAborted();
      await handle.writeFile(piece).catch((cause) => {
        throw storeError(path, cause);
      });
    }
  } finally {
    await handle.close();
  }
}

function storeError(path: string, cause: unknown): YavmError {
  if (isDiskFull(cause)) {
    return new YavmError('YAVM_E_DISK_FULL', `${dirname(path)}: the disk is full`, {
      cause,
      hint: 'Free space on the disk of this folder.',
    });
  }
  return new YavmError('YAVM_E_TRANSFER', `${path}: cannot be written`, { cause });
}

async function openRegular(path: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    // Non-blocking: opening a FIFO must not wait for its writer.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new YavmError('YAVM_E_TRANSFER', `${path}: cannot be read`, { cause });
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new YavmError('YAVM_E_TRANSFER', `${path}: not a regular file`, {
    hint: 'A directory is transferred as an archive from inside a VM only.',
  });
}
