/** The image of an activity: fetched, looked at, and held in the cache as long as it is used. */
import type { ImageConfig } from '../image/config.ts';
import { cacheLimit } from '../transfer/cache-limit.ts';
import type { FetchOptions } from '../transfer/image.ts';
import { LEAST_INTERVAL } from '../transfer/progress.ts';
import { type Effects, readCompressors } from './vm-effects.ts';

export interface TaskImage {
  path: string;
  /** Null when it says nothing. */
  config: ImageConfig | null;
  /** It may leave the cache. */
  release(): Promise<void>;
}

/**
 * @param manifest Of the kernel that is to read the image.
 * @param hide Told values that must not be logged.
 * @throws {YavmError} what leaseImage and verifyImage throw; nothing is held then
 */
export async function fetchTaskImage(
  { leaseImage, verifyImage }: Pick<Effects, 'leaseImage' | 'verifyImage'>,
  options: FetchOptions,
  { manifest, hide }: { manifest: string; hide(values: string[]): void },
): Promise<TaskImage> {
  const lease = await leaseImage({
    ...options,
    cacheLimit: cacheLimit(options.env ?? {}),
    progressOptions: { updateInterval: LEAST_INTERVAL },
  });
  const { path } = lease;
  const release = () => lease.release();
  try {
    const { config } = await verifyImage(path, { compressors: await readCompressors(manifest) });
    hide((config?.env ?? []).map((entry) => entry.slice(entry.indexOf('=') + 1)));
    return { path, config, release };
  } catch (error) {
    await release();
    throw error;
  }
}
