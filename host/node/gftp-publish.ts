/** Publishes a file of this host, so that a transfer can read it. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Flex, Gsb } from '../gsb/types.ts';
import { toError } from '../lib/errors.ts';
import { mapOf, numberOf } from './decode.ts';
import {
  gftpAnswer,
  localFileError,
  MAX_CHUNK,
  openPlace,
  type Place,
  type PlaceOptions,
} from './gftp-place.ts';

/**
 * The file is read when it is asked for: it must stay as it is until `close`.
 * @throws {YavmError} YAVM_E_LOCAL_FILE; as {@link openPlace}
 */
export async function publishFile(
  gsb: Pick<Gsb, 'bind' | 'unbind' | 'call'>,
  path: string,
  options: PlaceOptions = {},
): Promise<Place> {
  const { handle, size } = await openFile(path);
  try {
    const handlers = {
      GetMetadata: () => ({ fileSize: size }),
      GetChunk: (body: Flex) => readChunk(handle, size, body),
    };
    const place = await openPlace(gsb, handlers, options);
    return {
      url: place.url,
      async close() {
        await place.close();
        await handle.close();
      },
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openFile(path: string): Promise<{ handle: FileHandle; size: number }> {
  let handle: FileHandle;
  try {
    // A FIFO must not hold us before it was seen that it is one.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw localFileError(path, 'cannot be read', cause);
  }
  const stat = await handle.stat();
  if (stat.isFile()) return { handle, size: stat.size };
  await handle.close();
  throw localFileError(path, 'is no regular file');
}

async function readChunk(handle: FileHandle, fileSize: number, body: Flex): Promise<Flex> {
  const request = mapOf(body, 'GetChunk');
  const offset = numberOf(request.offset, 'offset');
  const size = numberOf(request.size, 'size');
  if (!Number.isSafeInteger(offset) || offset < 0 || offset > fileSize) {
    throw gftpAnswer('ReadError', `the file has ${fileSize} bytes, asked for were those at ${offset}`);
  }
  if (!Number.isSafeInteger(size) || size < 1 || size > MAX_CHUNK) {
    throw gftpAnswer('ReadError', `a chunk has between 1 and ${MAX_CHUNK} bytes, not ${size}`);
  }
  const content = new Uint8Array(Math.min(size, fileSize - offset));
  for (let at = 0; at < content.length; ) {
    const count = await readAt(handle, content.subarray(at), offset + at);
    if (count === 0) throw gftpAnswer('ReadError', 'the file became shorter');
    at += count;
  }
  return { offset, content };
}

async function readAt(handle: FileHandle, into: Uint8Array, position: number): Promise<number> {
  try {
    return (await handle.read(into, 0, into.length, position)).bytesRead;
  } catch (error) {
    throw gftpAnswer('ReadError', toError(error).message);
  }
}
