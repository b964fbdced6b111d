/** The image of a task: from its address in the agreement to a whole and checked file in the cache. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Native } from '../../native/face.ts';
import { loadNative } from '../../native/load.ts';
import type { sleep } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import { type Logger, silentLogger } from '../lib/logger.ts';
import { CacheEntry } from './cache.ts';
import { type GftpBus, gftpSource } from './gftp.ts';
import type { Lines } from './http.ts';
import type { ConnectionSettings } from './http-connection.ts';
import type { HttpTimeouts } from './http-request.ts';
import { downloadImage, type ImageDownload } from './image-download.ts';
import { downloadError } from './image-errors.ts';
import type { ImageLease } from './lease.ts';
import { checkLocalImage } from './local-image.ts';
import { type Digest, type Location, parseLocation, showUrl } from './location.ts';
import { TransferProgress } from './progress.ts';
import type { ProgressOptions, ProgressReport, TransferSource } from './types.ts';

export type { ImageLease } from './lease.ts';

export interface FetchOptions extends ConnectionSettings {
  /** `hash:sha3:<hex>:<url>`, as agreements and manifests have it. */
  taskPackage: string;
  /** The provider's folder of images (`-c`); made when it is not there. */
  cacheFolder: string;
  /** Most bytes of the folder's files (cache-limit.ts); default by the disk. */
  cacheLimit?: number;
  /** For images over gftp; null: there is none. */
  bus?: GftpBus | null;
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
  /** Connections to the server; for tests and the bench. */
  lines?: Lines;
  /** Milliseconds that another process which downloads this image may stay where it is (lock.ts). */
  patience?: number;
  native?: Native;
  sleep?: typeof sleep;
}

const MAX_SIZE = 64 * 1024 ** 3;

/** {@link leaseImage}, for who does not mind that the image may be evicted when another one is downloaded. */
export async function fetchImage(options: FetchOptions): Promise<string> {
  const lease = await leaseImage(options);
  await lease.release();
  return lease.path;
}

/**
 * Fetches an image unless it is in the cache, where it stays until the lease is released or this process ends. Two
 * processes that want the same one download it once. There is never a partial or unchecked file at the path.
 * @throws {YavmError} YAVM_E_URL, YAVM_E_UNSUPPORTED, YAVM_E_IMAGE_DOWNLOAD, YAVM_E_IMAGE_HASH, YAVM_E_IMAGE_CACHE,
 * YAVM_E_IMAGE_UNREADABLE (of a local file); the signal's reason.
 */
export async function leaseImage(options: FetchOptions): Promise<ImageLease> {
  const { signal = new AbortController().signal, logger = silentLogger, maxSize = MAX_SIZE } = options;
  signal.throwIfAborted();
  const location = parseLocation(options.taskPackage, 'file');
  if (options.allowFile && location.url.protocol === 'file:') {
    return { path: await checkLocalImage(location, signal), release: async () => {} };
  }
  const report = new TransferProgress(options.progress ?? (() => {}), options.progressOptions);
  const { url, digest, source } = supported(location, options.bus ?? null, maxSize);
  const folder = resolve(options.cacheFolder);
  const native = options.native ?? loadNative();
  const entry = new CacheEntry({ folder, url, digest, native, logger, limit: options.cacheLimit });
  const image = { ...options, entry, url, digest, source, report, logger, signal, maxSize };
  const lease = await entry.checked();
  if (lease) return fromCache(lease, image);
  try {
    return await fetchOnce(image, options);
  } catch (error) {
    signal.throwIfAborted();
    throw downloadError(error, folder, showUrl(url));
  }
}

/** What can be fetched, and how. */
function supported(
  { url, digest }: Location,
  bus: GftpBus | null,
  maxSize: number,
): { url: URL; digest: Digest; source: TransferSource | null } {
  const scheme = url.protocol.slice(0, -1);
  if (scheme !== 'http' && scheme !== 'https' && scheme !== 'gftp') {
    throw new YavmError('YAVM_E_UNSUPPORTED', `Unsupported scheme: ${scheme}`);
  }
  if (digest === null) {
    throw new YavmError('YAVM_E_URL', 'Invalid url: Missing hash', {
      hint: `Write hash:sha3:<hex>:${showUrl(url)}`,
    });
  }
  if (scheme !== 'gftp') return { url, digest, source: null };
  if (bus) return { url, digest, source: gftpSource(url, bus, { maxSize }) };
  throw new YavmError('YAVM_E_UNSUPPORTED', `${showUrl(url)}: no bus here that gftp could use`, {
    hint: 'Publish the image on an http or https server.',
  });
}

/** Under the image's lock: whoever waited for it finds the image there. */
async function fetchOnce(image: ImageDownload, options: FetchOptions): Promise<ImageLease> {
  const { entry, report, signal } = image;
  await entry.prepare();
  let waited = false;
  const lock = await entry.lock({ ...options, signal }, (bytes) => {
    if (!waited) report.message('Waiting for another activity that downloads this image');
    waited = true;
    // At the end there is no part any more, and for a moment nobody to say so.
    if (bytes > 0) report.update(bytes, null);
  });
  try {
    const lease = await entry.check(signal);
    if (lease === null) return await downloadImage(image);
    fromCache(lease, image);
    if (waited) report.finish((await stat(lease.path)).size);
    return lease;
  } finally {
    await lock?.release();
  }
}

function fromCache(lease: ImageLease, { report, logger }: ImageDownload): ImageLease {
  report.message('Deployed image from cache');
  logger.debug({ image: lease.path }, 'the image is in the cache');
  return lease;
}
