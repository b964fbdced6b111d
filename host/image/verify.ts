/** Looks at an image file before anything is started with it: what it is, and whether it is whole. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { YavmError } from '../lib/errors.ts';
import { type ImageConfig, parseImageConfig } from './config.ts';
import { ImageTruncatedError, ImageUnreadableError } from './errors.ts';
import { type ReadAt, readTrailer } from './gvmi.ts';
import { HEAD_SIZE, parseSuperblock, type Superblock } from './squashfs.ts';

export interface ImageInfo extends Superblock {
  /** `squashfs`: no metadata behind it. */
  kind: 'gvmi' | 'squashfs';
  /** Bytes of the file. */
  size: number;
  /** Null for a plain squashfs. */
  config: ImageConfig | null;
}

export interface VerifyOptions {
  /** Compressors that the guest's kernel can mount (`kernel.squashfs` of the manifest); default: all of mainline. */
  compressors?: readonly string[];
}

/** mksquashfs pads to 4 KiB; other tools to their own block. Behind a squashfs only this many zero bytes are padding. */
const MAX_PADDING = 1024 * 1024;

/**
 * Opens and checks an image. Reads less than 6 MiB of it, however large it is or claims to be.
 *
 * Found: files that are no image, truncation anywhere, a flipped bit in the metadata (CRC) or in the superblock's
 * sizes. Not found: damage inside the compressed data (squashfs.ts says why).
 * @throws {YavmError} with a YAVM_E_IMAGE_… code; the message starts with the path.
 */
export async function verifyImage(path: string, options: VerifyOptions = {}): Promise<ImageInfo> {
  let handle: FileHandle;
  try {
    // Non-blocking: opening a FIFO must not wait for its writer.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new ImageUnreadableError(`${path}: the image cannot be opened`, { cause });
  }
  try {
    return await verifyImageAt(handle, path, options);
  } finally {
    await handle.close();
  }
}

/** The same for a file that is open already: what was checked is then what QEMU gets. `name` is for messages. */
export async function verifyImageAt(
  handle: FileHandle,
  name: string,
  options: VerifyOptions = {},
): Promise<ImageInfo> {
  try {
    const at = await handle.stat();
    if (!at.isFile()) throw new ImageUnreadableError('not a regular file');
    return await verifyBytes(reader(handle), at.size, options);
  } catch (cause) {
    if (cause instanceof YavmError) throw withName(name, cause);
    throw new ImageUnreadableError(`${name}: the image cannot be read`, { cause });
  }
}

async function verifyBytes(read: ReadAt, size: number, options: VerifyOptions): Promise<ImageInfo> {
  const head = await read(0, Math.min(size, HEAD_SIZE));
  const superblock = parseSuperblock(head, size, options.compressors);
  const trailer = await readTrailer(read, superblock.bytesUsed, size);
  if (trailer) return { ...superblock, kind: 'gvmi', size, config: parseImageConfig(trailer.json) };
  await checkPadding(read, superblock.bytesUsed, size);
  return { ...superblock, kind: 'squashfs', size, config: null };
}

/** A `.gvmi` that was cut inside its trailer looks like a squashfs with something behind it. */
async function checkPadding(read: ReadAt, from: number, size: number): Promise<void> {
  const length = size - from;
  if (length <= MAX_PADDING && (await read(from, length)).every((byte) => byte === 0)) return;
  throw new ImageTruncatedError(
    `${length} bytes lie behind the squashfs that are neither padding nor complete metadata`,
    { hint: 'A .gvmi that was cut off, or written to? Download or copy it again.' },
  );
}

function reader(handle: FileHandle): ReadAt {
  return async (offset, length) => {
    const bytes = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw new ImageTruncatedError(`the file became shorter while it was read`);
      done += bytesRead;
    }
    return bytes;
  };
}

/** The same error, with the file's name in front of its message. */
function withName(name: string, error: YavmError): YavmError {
  error.message = `${name}: ${error.message}`;
  return error;
}
