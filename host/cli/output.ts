/** A command's output to our own standard streams: its bytes only, at the reader's pace, nothing dropped. */
import type { Writable } from 'node:stream';
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

/**
 * Writes one chunk and waits until the system took it.
 * @returns false when the stream is closed or failed (EPIPE): nobody reads it any more.
 */
function writeChunk(to: Writable, chunk: Uint8Array): Promise<boolean> {
  if (to.destroyed || to.writableEnded) return Promise.resolve(false);
  return new Promise((resolve) => {
    // The callback comes when the bytes were handed to the system, or with the error; 'close' covers a stream that is
    // destroyed in between.
    const onClose = () => resolve(false);
    to.once('close', onClose);
    to.write(chunk, (error) => {
      to.off('close', onClose);
      resolve(!error);
    });
  });
}
