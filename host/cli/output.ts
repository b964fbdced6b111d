/** A command's output to our own standard streams: its bytes only, at the reader's pace, nothing dropped. */
import type { Writable } from 'node:stream';
import { hasErrno } from '../lib/errors.ts';
import { writeChunk } from '../lib/write.ts';
import type { OutputStream } from '../runtime/output-stream.ts';

/**
 * Copies a stream of the VM to one of ours, in the background. Taking the next bytes waits for the last ones to be
 * written, so a slow reader of ours slows the command down, through the protocol's credits, and memory stays bounded.
 * When ours cannot be written any more the rest is dropped, so that the command's end can be seen, and `onClosed` is
 * called with the reason: null when our reader is just gone (EPIPE).
 */
export function copyOutput(from: OutputStream, to: Writable, onClosed: (error: Error | null) => void): void {
  let failure: Error | null = null;
  const copied = from.consume(async (bytes) => {
    failure = await writeChunk(to, bytes);
    if (failure) throw failure;
  });
  copied.catch((error) => {
    from.discard();
    // Anything else is the VM's end, which who waits for the command's result is told.
    if (error === failure) onClosed(hasErrno(error, 'EPIPE') ? null : failure);
  });
}
