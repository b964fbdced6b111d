/** A command's output to our own standard streams: its bytes only, at the reader's pace, nothing dropped. */
import type { Writable } from 'node:stream';
import { writeChunk } from '../lib/write.ts';
import type { OutputStream } from '../runtime/output-stream.ts';

/**
 * Copies a stream of the VM to one of ours, in the background. Taking the next bytes waits for the last ones to be
 * written, so a slow reader of ours slows the command down, through the protocol's credits, and memory stays bounded.
 * When our reader is gone (EPIPE) the rest is dropped, so that the command's end can be seen, and `onClosed` is called.
 */
export function copyOutput(from: OutputStream, to: Writable, onClosed: () => void): void {
  const copied = from.consume(async (bytes) => {
    if (!(await writeChunk(to, bytes))) throw new ReaderGone();
  });
  copied.catch((error) => {
    from.discard();
    // Anything else is the VM's end, which who waits for the command's exit is told.
    if (error instanceof ReaderGone) onClosed();
  });
}

class ReaderGone extends Error {
  override name = 'ReaderGone';
}
