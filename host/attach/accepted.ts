/** A socket that a server accepted, in the form in which a FramePort wants its sockets. */
import type { Socket } from 'node:net';
import type { Connect } from '../runtime/frame-port.ts';

/**
 * FramePort has its bytes read into a buffer of its own (`onread`), which only sockets that we open can do. Those that
 * a server accepted read into buffers of theirs; this copies from one to the other. What clients send is typing and
 * small files, so the copy costs nothing that counts.
 */
export function accepted(socket: Socket): Connect {
  return ({ buffer, callback }) => {
    if (!(buffer instanceof Uint8Array)) throw new TypeError('onread.buffer is not a buffer');
    socket.on('data', (chunk: Uint8Array) => {
      for (let offset = 0; offset < chunk.byteLength; offset += buffer.byteLength) {
        const piece = chunk.subarray(offset, offset + buffer.byteLength);
        buffer.set(piece);
        if (!callback(piece.byteLength, buffer)) {
          socket.pause();
          // What the port's pause is about is the next read; what was read is handed over.
        }
      }
    });
    return socket;
  };
}
