/** Writing to a stream that may close in the middle. */
import type { Writable } from 'node:stream';

/**
 * Writes one chunk and waits until it was handed on: to the system, or to where the stream leads. `chunk` must not
 * change until then.
 * @returns false when the stream is closed or failed (EPIPE): nobody takes it any more.
 */
export function writeChunk(to: Writable, chunk: Uint8Array): Promise<boolean> {
  if (to.destroyed || to.writableEnded) return Promise.resolve(false);
  return new Promise((resolve) => {
    // Streams do not call back for a write that is under way when they are destroyed.
    const onClose = () => resolve(false);
    to.once('close', onClose);
    to.write(chunk, (error) => {
      to.off('close', onClose);
      resolve(!error);
    });
  });
}
