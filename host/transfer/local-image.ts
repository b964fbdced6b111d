/** An image that is a file of this host: used where it is. Only for our own commands, never for a requestor. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ImageUnreadableError } from '../image/errors.ts';
import { hashFile } from './hash.ts';
import { hashError } from './image-errors.ts';
import { filePath, type Location } from './location.ts';

/** The path of a `file:` location, whose content has the hash, when one is given. */
export async function checkLocalImage({ url, digest }: Location, signal: AbortSignal): Promise<string> {
  const path = filePath(url);
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

async function openFile(path: string): Promise<FileHandle> {
  try {
    // Non-blocking: opening a FIFO must not wait for its writer.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new ImageUnreadableError(`${path}: the image cannot be opened`, { cause });
  }
}
