/** A requestor's published file as a transfer's source (exe-unit.md 6.5). */
import { parseGftpUrl } from './gftp-address.ts';
import { CHUNK, type GftpBus, type GftpOptions, GftpPeer, READ_AHEAD } from './gftp-peer.ts';
import type { Bytes, TransferSource } from './types.ts';

export interface GftpSourceOptions extends GftpOptions {
  /** Bytes of a file that is accepted; default any. */
  maxSize?: number;
}

/**
 * Asks for several chunks at a time, and hands them on in their order; holds no more than those. It begins at the first byte
 * each time: the protocol knows no version of a file by which it could be continued.
 * @throws {YavmError} YAVM_E_URL
 */
export function gftpSource(url: URL, bus: GftpBus, options: GftpSourceOptions = {}): TransferSource {
  const peer = new GftpPeer(parseGftpUrl(url), bus, options);
  return {
    shown: peer.shown,
    async open({ signal }) {
      signal.throwIfAborted();
      const size = await peer.size(options.maxSize ?? Number.MAX_SAFE_INTEGER, signal);
      return { size, bytes: chunks(peer, size, signal) };
    },
  };
}

async function* chunks(peer: GftpPeer, size: number, signal: AbortSignal): Bytes {
  signal.throwIfAborted();
  const left = new AbortController();
  const until = AbortSignal.any([signal, left.signal]);
  const asked: Promise<Uint8Array>[] = [];
  let next = 0;
  const ask = () => {
    const chunk = peer.chunk(next, Math.min(CHUNK, size - next), until);
    // Of several that fail the first one is told; the others are nobody's.
    chunk.catch(() => {});
    asked.push(chunk);
    next += CHUNK;
  };
  try {
    for (;;) {
      while (next < size && asked.length < READ_AHEAD) ask();
      const chunk = asked.shift();
      if (chunk === undefined) return;
      yield await chunk;
      signal.throwIfAborted();
    }
  } finally {
    left.abort(new Error('nobody reads this any more'));
  }
}
