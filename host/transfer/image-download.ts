/** An image on its way into the cache: continued where another process left it, checked, and given its name. */
import type { sleep } from '../lib/deadline.ts';
import { withDeadline } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { formatSize } from '../lib/size.ts';
import type { CacheEntry } from './cache.ts';
import { type Downloaded, type DownloadOptions, download, type Lines } from './http.ts';
import type { ConnectionSettings } from './http-connection.ts';
import type { HttpTimeouts } from './http-request.ts';
import type { Beginning } from './identity.ts';
import { hashError } from './image-errors.ts';
import type { ImageLease } from './lease.ts';
import { type Digest, showUrl } from './location.ts';
import type { PartFile } from './part-file.ts';
import type { TransferProgress } from './progress.ts';
import { isPassing, withRetries } from './retry.ts';
import type { TransferSource } from './types.ts';

export interface ImageDownload extends ConnectionSettings {
  entry: CacheEntry;
  url: URL;
  digest: Digest;
  /** What the image is read from when it is not on an HTTP server. */
  source: TransferSource | null;
  report: TransferProgress;
  logger: Logger;
  signal: AbortSignal;
  /** Bytes. */
  maxSize: number;
  timeouts?: Partial<HttpTimeouts>;
  lines?: Lines;
  sleep?: typeof sleep;
}

/**
 * Downloads the image and publishes it. Of one that fails nothing is left, unless the server is in trouble and knows its
 * file again: then the next attempt goes on from there.
 */
export async function downloadImage(image: ImageDownload): Promise<ImageLease> {
  const { entry, url, report, logger } = image;
  const started = performance.now();
  const { part, beginning } = await entry.openPart(image.source === null);
  try {
    await tidy(image);
    if (beginning)
      logger.info({ url: showUrl(url), bytes: beginning.size }, 'an unfinished download goes on');
    const size = await downloadChecked(part, beginning, image);
    const lease = await entry.publish(part);
    report.finish(size);
    const milliseconds = Math.round(performance.now() - started);
    logger.info({ url: showUrl(url), image: entry.path, size, milliseconds }, 'image downloaded');
    return lease;
  } catch (error) {
    if (isPassing(error)) await part.leave();
    throw error;
  } finally {
    await part.discard();
  }
}

async function tidy({ entry, logger }: ImageDownload): Promise<void> {
  try {
    const left = await entry.cleanUp();
    if (left.length > 0) logger.info({ files: left }, 'removed what unfinished downloads have left');
  } catch (error) {
    logger.warn({ err: error }, 'what unfinished downloads have left cannot be removed');
  }
}

/** Downloads and compares the hash. A wrong one counts, unless the file was put together from several answers. */
async function downloadChecked(
  part: PartFile,
  beginning: Beginning | null,
  image: ImageDownload,
): Promise<number> {
  const { url, digest, logger, signal } = image;
  const first = await receive(part, image, { beginning });
  const found = await digestOf(part, signal);
  if (found === digest.hex) return first.size;
  if (!first.pieced) throw hashError(found, digest.hex, showUrl(url));
  logger.warn({ url: showUrl(url) }, 'an image from several answers has the wrong hash: again, in one piece');
  const { size } = await receive(part, image, { onePiece: true });
  const calculated = await digestOf(part, signal);
  if (calculated !== digest.hex) throw hashError(calculated, digest.hex, showUrl(url));
  return size;
}

function digestOf(part: PartFile, signal: AbortSignal): Promise<string> {
  return withDeadline(part.digest(), Number.POSITIVE_INFINITY, 'the hash', { signal });
}

async function receive(
  part: PartFile,
  image: ImageDownload,
  how: Pick<DownloadOptions, 'beginning' | 'onePiece'>,
): Promise<Downloaded> {
  const { url, report, logger, entry } = image;
  const onRetry = (seconds: number, error: Error) => {
    report.message(`Retry in ${seconds}s because of error: ${error.message}`);
    logger.warn({ url: showUrl(url), seconds, err: error }, 'the download is tried again');
  };
  if (image.source) return await readSource(part, image.source, image, onRetry);
  return await download(url, part, {
    ...image,
    ...how,
    onSize: (missing) => entry.room.expect(missing),
    onProgress: (done, total) => report.update(done, total),
    onRetry,
  });
}

/** From a source that begins anew each time. */
async function readSource(
  part: PartFile,
  source: TransferSource,
  image: ImageDownload,
  onRetry: (seconds: number, error: Error) => void,
): Promise<Downloaded> {
  const { entry, report, maxSize } = image;
  const read = async () => {
    const { size, bytes } = await source.open(image);
    if (size !== null && size > maxSize) throw tooLarge(source, maxSize);
    await entry.room.expect(size);
    await part.begin(null);
    let at = 0;
    for await (const piece of bytes) {
      if (at + piece.byteLength > maxSize) throw tooLarge(source, maxSize);
      await part.write([new Uint8Array(piece)], at);
      at += piece.byteLength;
      part.advance(at);
      report.update(at, size);
    }
    return { size: at, pieced: false };
  };
  return await withRetries(read, { ...image, onRetry });
}

function tooLarge({ shown }: TransferSource, maxSize: number): YavmError {
  return new YavmError(
    'YAVM_E_IMAGE_DOWNLOAD',
    `${shown}: larger than ${formatSize(maxSize)}, the most that is taken`,
  );
}
