/** An image that is a file of this host: used where it is. Only for our own commands, never for a requestor. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { ImageUnreadableError } from '../image/errors.ts';
import { YavmError } from '../lib/errors.ts';
import { hashFile } from './hash.ts';
import { hashError } from './image-errors.ts';
import type { Location } from './location.ts';

/** The path of a `file:` location, whose content has the hash, when one is given. */
export async function checkLocalImage({ url, digest }: Location, signal: AbortSignal): Promise<string> {
  const path = pathOf(url);
  const handle = await openFile(path);
  try {
    const at = await handle.stat();
    if (!at.isFile()) throw new ImageUnreadableError(`${path}: not a regular file`);
    if (digest === null) return path;
    const calculated = await hashFile(handle.fd, at.size, digest.algorithm, signal);
    if (calculated !== digest.hex) throw hashError(calculated, digest.hex, path);
    return path;
  } finally {
    await handle.close();
  }
}

function pathOf(url: URL): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    throw new YavmError('YAVM_E_URL', 'Invalid url: not a path of this host', { cause });
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    // Non-blocking: opening a FIFO must not wait for its writer.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new ImageUnreadableError(`${path}: the image cannot be opened`, { cause });
  }
}
