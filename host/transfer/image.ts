/** The image of a task: from its address in the agreement to a whole and checked file in the cache. */
import { resolve } from 'node:path';
import type { Native } from '../../native/face.ts';
import { loadNative } from '../../native/load.ts';
import { type sleep, withDeadline } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import { type Logger, silentLogger } from '../lib/logger.ts';
import { CacheEntry } from './cache.ts';
import { type Downloaded, download } from './http.ts';
import type { HttpTimeouts } from './http-request.ts';
import { downloadError, hashError, spaceError } from './image-errors.ts';
import { checkLocalImage } from './local-image.ts';
import { type Digest, type Location, parseLocation, showUrl } from './location.ts';
import type { PartFile } from './part-file.ts';
import { TransferProgress } from './progress.ts';
import type { ProgressOptions, ProgressReport } from './types.ts';

export interface FetchOptions {
  /** `hash:sha3:<hex>:<url>`, as agreements and manifests have it. */
  taskPackage: string;
  /** The provider's folder of images (`-c`); made when it is not there. */
  cacheFolder: string;
  /** Called at the pace of `progressOptions`, and at the end. */
  progress?: (report: ProgressReport) => void;
  progressOptions?: ProgressOptions;
  signal?: AbortSignal;
  logger?: Logger;
  /** Also takes files of this host, with or without a hash, where they are. Never for a requestor's address. */
  allowFile?: boolean;
  /** Most bytes of an image; default 64 GiB. */
  maxSize?: number;
  timeouts?: Partial<HttpTimeouts>;
  /** Certificates to trust instead of Node's, PEM; for tests. */
  ca?: string;
  /** Milliseconds that another process which downloads this image may stay where it is (lock.ts). */
  patience?: number;
  native?: Native;
  sleep?: typeof sleep;
}

/** {@link FetchOptions}, completed. */
interface Fetch extends FetchOptions {
  signal: AbortSignal;
  logger: Logger;
  url: URL;
  digest: Digest;
  report: TransferProgress;
}

const MAX_SIZE = 64 * 1024 ** 3;

/**
 * Fetches an image unless it is in the cache; returns its path there. Two processes that want the same one download it
 * once. There is never a partial or unchecked file at the path, and nothing is left behind by a failure.
 * @throws {YavmError} YAVM_E_URL, YAVM_E_UNSUPPORTED, YAVM_E_IMAGE_DOWNLOAD, YAVM_E_IMAGE_HASH, YAVM_E_IMAGE_CACHE,
 * YAVM_E_IMAGE_UNREADABLE (of a local file); the signal's reason.
 */
export async function fetchImage(options: FetchOptions): Promise<string> {
  const { signal = new AbortController().signal, logger = silentLogger } = options;
  signal.throwIfAborted();
  const location = parseLocation(options.taskPackage, 'file');
  if (options.allowFile && location.url.protocol === 'file:') {
    return await checkLocalImage(location, signal);
  }
  const report = new TransferProgress(options.progress ?? (() => {}), options.progressOptions);
  const [url, digest] = [location.url, supported(location)];
  const cacheFolder = resolve(options.cacheFolder);
  const fetch = { ...options, cacheFolder, signal, logger, report, url, digest };
  const entry = new CacheEntry(cacheFolder, url, digest, options.native ?? loadNative());
  if (await entry.isChecked()) return fromCache(entry, fetch);
  return await fetchOnce(entry, fetch);
}

/** What can be fetched, and its digest. */
function supported({ url, digest }: Location): Digest {
  const scheme = url.protocol.slice(0, -1);
  if (scheme === 'gftp') {
    throw new YavmError('YAVM_E_UNSUPPORTED', 'images over gftp are not supported yet', {
      hint: 'Publish the image on an http or https server.',
    });
  }
  if (scheme !== 'http' && scheme !== 'https') {
    throw new YavmError('YAVM_E_UNSUPPORTED', `Unsupported scheme: ${scheme}`);
  }
  if (digest === null) {
    throw new YavmError('YAVM_E_URL', 'Invalid url: Missing hash', {
      hint: `Write hash:sha3:<hex>:${showUrl(url)}`,
    });
  }
  return digest;
}

/** Under the image's lock: whoever waited for it finds the image there. */
async function fetchOnce(entry: CacheEntry, fetch: Fetch): Promise<string> {
  await entry.prepare();
  let waited = false;
  const lock = await entry.lock(fetch, (bytes) => {
    if (!waited) fetch.report.message('Waiting for another activity that downloads this image');
    waited = true;
    fetch.report.update(bytes, null);
  });
  try {
    return (await entry.check(fetch.signal)) ? fromCache(entry, fetch) : await downloadInto(entry, fetch);
  } catch (error) {
    fetch.signal.throwIfAborted();
    throw downloadError(error, fetch.cacheFolder);
  } finally {
    await lock?.release();
  }
}

function fromCache(entry: CacheEntry, { report, logger }: Fetch): string {
  report.message('Deployed image from cache');
  logger.debug({ image: entry.path }, 'the image is in the cache');
  return entry.path;
}

async function downloadInto(entry: CacheEntry, fetch: Fetch): Promise<string> {
  const { url, report, logger } = fetch;
  const started = performance.now();
  const left = await entry.cleanUp();
  if (left.length > 0)
    logger.info({ files: left }, 'removed unfinished downloads of processes that are gone');
  const part = await entry.createPart();
  try {
    const { size } = await downloadChecked(part, entry, fetch);
    await entry.publish(part);
    report.finish(size);
    const milliseconds = Math.round(performance.now() - started);
    logger.info({ url: showUrl(url), image: entry.path, size, milliseconds }, 'image downloaded');
    return entry.path;
  } finally {
    await part.discard();
  }
}

/** Downloads and compares the hash. A wrong one counts, unless the file was put together from several answers. */
async function downloadChecked(part: PartFile, entry: CacheEntry, fetch: Fetch): Promise<Downloaded> {
  const { url, digest, report, logger, signal } = fetch;
  for (const resume of [true, false]) {
    const result = await download(url, part, {
      ...fetch,
      resume,
      maxSize: fetch.maxSize ?? MAX_SIZE,
      onSize: (total) => checkSpace(entry, (total ?? 0) - part.size, fetch.cacheFolder),
      onProgress: (done, total) => report.update(done, total),
      onRetry: (seconds, error) => {
        report.message(`Retry in ${seconds}s because of error: ${error.message}`);
        logger.warn({ url: showUrl(url), seconds, err: error }, 'the download is tried again');
      },
    });
    const calculated = await withDeadline(part.digest(), Number.POSITIVE_INFINITY, 'the hash', { signal });
    if (calculated === digest.hex) return result;
    if (!result.resumed) throw hashError(calculated, digest.hex);
    logger.warn({ url: showUrl(url) }, 'a continued download has the wrong hash: again, in one piece');
    await part.restart();
  }
  throw new YavmError('YAVM_E_INTERNAL', 'a download that may not be continued was');
}

async function checkSpace(entry: CacheEntry, needed: number, folder: string): Promise<void> {
  const free = await entry.freeSpace();
  if (needed > free) throw spaceError(folder, needed, free);
}
