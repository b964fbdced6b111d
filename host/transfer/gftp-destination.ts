/** A place on a requestor's side as a transfer's destination (exe-unit.md 6.5). */
import { parseGftpUrl } from './gftp-address.ts';
import { CHUNK, type GftpBus, type GftpOptions, GftpPeer, SENT_AHEAD } from './gftp-peer.ts';
import { StreamHasher } from './hash.ts';
import type { Bytes, TransferDestination } from './types.ts';

/**
 * Chunks go out in their order, several ahead of the first one that is not answered: each way to a receiver keeps the order
 * of what it carries, and a receiver that takes them as they come (golem-js) needs it. One at a time would be no safer,
 * and a round trip each. What fails is never finished, so that the receiver drops it.
 * @throws {YavmError} YAVM_E_URL
 */
export function gftpDestination(url: URL, bus: GftpBus, options: GftpOptions = {}): TransferDestination {
  const peer = new GftpPeer(parseGftpUrl(url), bus, options);
  return {
    shown: peer.shown,
    async write({ bytes }, { signal }) {
      signal.throwIfAborted();
      const left = new AbortController();
      const hasher = new StreamHasher('sha3-256');
      try {
        await upload(peer, bytes, hasher, AbortSignal.any([signal, left.signal]));
      } finally {
        left.abort(new Error('the upload is over'));
        await hasher.close();
      }
    },
  };
}

async function upload(
  peer: GftpPeer,
  bytes: Bytes,
  hasher: StreamHasher,
  signal: AbortSignal,
): Promise<void> {
  const sent: Promise<void>[] = [];
  let offset = 0;
  for await (const chunk of recut(bytes)) {
    if (sent.length >= SENT_AHEAD) await sent.shift();
    signal.throwIfAborted();
    await hasher.update(chunk);
    const answer = peer.upload(offset, chunk, signal);
    answer.catch(() => {});
    sent.push(answer);
    offset += chunk.length;
  }
  for (const answer of sent) await answer;
  await peer.finish(await hasher.digest(), signal);
}

/** The same bytes in chunks of the full size, but for the last one. A chunk is valid until the next is asked for. */
async function* recut(bytes: Bytes): Bytes {
  const rest = new Uint8Array(CHUNK);
  let held = 0;
  for await (const piece of bytes) {
    let at = 0;
    while (at < piece.length) {
      if (held === 0 && piece.length - at >= CHUNK) {
        yield piece.subarray(at, at + CHUNK);
        at += CHUNK;
        continue;
      }
      const taken = Math.min(CHUNK - held, piece.length - at);
      rest.set(piece.subarray(at, at + taken), held);
      at += taken;
      held += taken;
      if (held < CHUNK) continue;
      yield rest;
      held = 0;
    }
  }
  if (held > 0) yield rest.subarray(0, held);
}
