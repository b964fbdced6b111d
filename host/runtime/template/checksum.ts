/** Checksums of a template's files. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

/** Memory is zero for the most part; in pieces of this size it is told apart from what is not. Bytes. */
const BLOCK = 64 * 1024;
/** Read at a time. */
const PIECE = 4 * 1024 * 1024;
const ZEROS = Buffer.alloc(BLOCK);

/**
 * SHA-256, in hexadecimal, of a file that is mostly zeros: of each block of 64 KiB that is not, after its offset (decimal and
 * a newline). The same for a hole and for zeros that are written.
 */
export async function sparseChecksum(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const file = await open(path, 'r');
  try {
    const piece = Buffer.allocUnsafeSlow(PIECE);
    for (let offset = 0; ; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(piece, 0, PIECE, offset);
      if (bytesRead === 0) return hash.digest('hex');
      for (let at = 0; at < bytesRead; at += BLOCK) {
        const block = piece.subarray(at, Math.min(at + BLOCK, bytesRead));
        if (block.equals(ZEROS.subarray(0, block.length))) continue;
        hash.update(`${offset + at}\n`).update(block);
      }
      offset += bytesRead;
    }
  } finally {
    await file.close();
  }
}
