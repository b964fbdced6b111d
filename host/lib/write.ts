/** Writing to a stream that may close in the middle. */
import type { Writable } from 'node:stream';

/**
 * Writes one chunk and waits until it was handed on: to the system, or to where the stream leads. `chunk` must not
 * change until then.
 * @returns null, or why it was not written: the stream's error; EPIPE for one that is closed, as for a reader that left.
 */
export function writeChunk(to: Writable, chunk: Uint8Array): Promise<Error | null> {
  if (to.destroyed || to.writableEnded) return Promise.resolve(closedError());
  return new Promise((resolve) => {
    // Streams do not call back for a write that is under way when they are destroyed.
    const onClose = () => resolve(closedError());
    to.once('close', onClose);
    // The error is taken here: standard streams forget theirs right after, so that they can be written to again.
    to.write(chunk, (error) => {
      to.off('close', onClose);
      resolve(error ?? null);
    });
  });
}

function closedError(): Error {
  return Object.assign(new Error('the stream is closed'), { code: 'EPIPE' });
}
