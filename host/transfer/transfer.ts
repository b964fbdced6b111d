/** One transfer, from one end to the other: counted, checked against its hash, tried again when a failure may pass. */
import type { sleep } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import { StreamHasher } from './hash.ts';
import type { Digest } from './location.ts';
import type { TransferProgress } from './progress.ts';
import { withRetries } from './retry.ts';
import type { Bytes, Opened, TransferDestination, TransferSource } from './types.ts';

export interface TransferRequest {
  from: TransferSource;
  to: TransferDestination;
  /** What all bytes must hash to; null: nothing is said. */
  digest: Digest | null;
}

export interface TransferContext {
  signal: AbortSignal;
  progress: TransferProgress;
  onRetry?: (seconds: number, error: Error) => void;
  sleep?: typeof sleep;
}

/**
 * Moves all bytes; resolves with their number when they are at their place.
 * @throws {YavmError} YAVM_E_TRANSFER_HASH, YAVM_E_TRANSFER_SIZE; what the ends throw; the signal's reason
 */
export async function transfer(request: TransferRequest, context: TransferContext): Promise<number> {
  const { signal, progress } = context;
  const total = await withRetries(() => attempt(request, context), {
    ...context,
    onRetry: (seconds, error) => {
      progress.message(`Retry in ${seconds}s because of error: ${error.message}`);
      context.onRetry?.(seconds, error);
    },
  });
  signal.throwIfAborted();
  progress.finish(total);
  return total;
}

async function attempt(
  { from, to, digest }: TransferRequest,
  { signal, progress }: TransferContext,
): Promise<number> {
  signal.throwIfAborted();
  const hasher = digest && new StreamHasher(digest.algorithm);
  // When one end fails, the other need not find out by itself.
  const over = new AbortController();
  const until = { signal: AbortSignal.any([signal, over.signal]) };
  try {
    const opened = await from.open(until);
    const count = { bytes: 0 };
    const counted = counting(from.shown, opened, count, progress);
    const bytes = hasher ? hashing(from.shown, counted, hasher, digest) : counted;
    await to.write({ size: opened.size, bytes }, until);
    return count.bytes;
  } catch (error) {
    // Whatever an abort made of the two ends.
    signal.throwIfAborted();
    throw error;
  } finally {
    over.abort(new Error('this attempt is over'));
    await hasher?.close();
  }
}

/** Fails when there are not as many bytes as were announced: the other end must not take a part for the whole. */
async function* counting(
  shown: string,
  { size, bytes }: Opened,
  count: { bytes: number },
  progress: TransferProgress,
): Bytes {
  progress.update(0, size);
  for await (const piece of bytes) {
    count.bytes += piece.byteLength;
    if (size !== null && count.bytes > size) throw wrongSize(shown, `more than ${size}`);
    yield piece;
    progress.update(count.bytes, size);
  }
  if (size !== null && count.bytes < size) throw wrongSize(shown, `only ${count.bytes} of ${size}`);
}

function wrongSize(shown: string, what: string): YavmError {
  return new YavmError('YAVM_E_TRANSFER_SIZE', `${shown}: ${what} bytes came`);
}

/** Passes everything on; the end comes only when the hash is right. */
async function* hashing(shown: string, bytes: Bytes, hasher: StreamHasher, digest: Digest): Bytes {
  for await (const piece of bytes) {
    await hasher.update(piece);
    yield piece;
  }
  const calculated = await hasher.digest();
  if (calculated === digest.hex) return;
  throw new YavmError(
    'YAVM_E_TRANSFER_HASH',
    `${shown}: Incorrect hash: calculated hash ${calculated} differs from the expected one ${digest.hex}`,
  );
}
