/** The files of a VM that is not there: paths and their bytes, in memory. A tar stays the bytes that it is. */
import { YavmError } from '../../host/lib/errors.ts';
import type { GuestFiles } from '../../host/transfer/container.ts';

/** Bytes handed to a sink at once. */
const PIECE = 64 * 1024;

export class MemoryFiles implements GuestFiles {
  /** By path; a tar by `tar:` and its path. */
  readonly content = new Map<string, Buffer>();
  /** `read file /a`, `write tar /b`, in order. */
  readonly calls: string[] = [];
  /** Writes that failed. */
  broken = 0;

  async readFiles(
    path: string,
    sink: (bytes: Uint8Array) => void | Promise<void>,
    { format, signal }: { format: 'file' | 'tar'; signal: AbortSignal },
  ): Promise<void> {
    this.calls.push(`read ${format} ${path}`);
    const bytes = this.content.get(keyOf(path, format));
    if (bytes === undefined) throw new YavmError('YAVM_E_GUEST_FILE_FAILED', `cannot read '${path}': ENOENT`);
    for (let at = 0; at < bytes.length; at += PIECE) {
      signal.throwIfAborted();
      await sink(bytes.subarray(at, at + PIECE));
    }
  }

  async writeFiles(
    path: string,
    source: AsyncIterable<Uint8Array>,
    { format, signal }: { format: 'file' | 'tar'; signal: AbortSignal },
  ): Promise<void> {
    this.calls.push(`write ${format} ${path}`);
    const pieces: Buffer[] = [];
    try {
      for await (const piece of source) {
        signal.throwIfAborted();
        pieces.push(Buffer.from(piece));
      }
    } catch (error) {
      this.broken++;
      throw error;
    }
    this.content.set(keyOf(path, format), Buffer.concat(pieces));
  }
}

function keyOf(path: string, format: 'file' | 'tar'): string {
  return format === 'tar' ? `tar:${path}` : path;
}
