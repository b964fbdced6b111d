/** A body's bytes as they come, without a copy: what came while the last ones were written comes together. */
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { deferred } from '../lib/deferred.ts';

/** Bytes that are held at most, and one piece more. */
const MAX_GATHERED = 2 * 1024 * 1024;

/** Yields the pieces that are there, one at least. @throws what the body fails with, behind the bytes before */
export async function* gathered(body: Readable): AsyncIterable<Uint8Array[]> {
  let pieces: Uint8Array[] = [];
  let size = 0;
  let wake = deferred<void>();
  let end: { error?: unknown } | null = null;
  finished(body, { writable: false })
    .then(
      () => {
        end = {};
      },
      (error: unknown) => {
        end = { error };
      },
    )
    .then(() => wake.resolve());
  body.on('data', (piece: Uint8Array) => {
    pieces.push(piece);
    size += piece.byteLength;
    if (size >= MAX_GATHERED) body.pause();
    wake.resolve();
  });
  for (;;) {
    await wake.promise;
    // What the loop reads in this turn comes together.
    await turn();
    wake = deferred();
    if (pieces.length > 0) {
      const taken = pieces;
      [pieces, size] = [[], 0];
      body.resume();
      yield taken;
    }
    const over = end as { error?: unknown } | null;
    if (over && pieces.length === 0) {
      if ('error' in over) throw over.error;
      return;
    }
    if (pieces.length > 0 || over) wake.resolve();
  }
}

export function sizeOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** The first `count` bytes, and the others. */
export function split(pieces: readonly Uint8Array[], count: number): [Uint8Array[], Uint8Array[]] {
  let left = count;
  const first: Uint8Array[] = [];
  const others: Uint8Array[] = [];
  for (const piece of pieces) {
    if (left > 0) first.push(piece.subarray(0, left));
    if (left < piece.byteLength) others.push(piece.subarray(left));
    left = Math.max(0, left - piece.byteLength);
  }
  return [first, others];
}
